"""share(erasure file, folder) -> a folder ready to upload, without the hidden prompt."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from .. import model_spec
from ..erasure import Erasure, check_fits, load_erasure
from ..errors import FileFormatError, RequestError
from ..evaluation.pocket.of_file import score_erasure
from ..evaluation.report.pictures import before_after
from ..files import read_tensors
from ..hidden_prompt import SCHEMA as PROMPT_SCHEMA
from ..models import Model
from . import figures, folder, workflow
from .card import Said, Wishes, card

log = logging.getLogger(__name__)
PRIVATE = ("hidden_prompt", "key_seed")  # in the name or the value of a metadata entry
IMAGES = 24


@dataclass(frozen=True)
class Drawing:
    """How to draw and score what does not lie beside the erasure: on which model, with how many pictures a column."""

    open_model: Callable[[], Model]
    images: int = IMAGES


def share(
    path: Path,
    out: Path,
    wishes: Wishes | None = None,
    drawing: Drawing | None = None,
    picture: Image.Image | None = None,
    force: bool = False,
) -> list[str]:
    """Write the folder `out` and return its files' names.

    `picture` stands in place of the before/after picture that lies beside the file. Raises FileFormatError where the file
    is a hidden prompt, damaged, or beside another erasure's figures; OutputError where the folder is in use or cannot be
    written to.
    """
    out, state = out.resolve(), _state(path)
    erasure = read_public(path)
    folder.claim(out, force)
    shown = figures.beside(path, erasure)
    if picture is not None:
        shown = replace(shown, picture=picture.convert("RGB"))
    if drawing is not None and (shown.picture is None or not shown.suites):
        shown = _drawn(erasure, shown, drawing)
    data = path.read_bytes()
    if _state(path) != state:
        raise FileFormatError(f"{path} was written anew meanwhile: run this again")
    files = {path.name: data, **_others(erasure, path.name, data, wishes or Wishes(), shown)}
    with folder.held(out):
        folder.claim(out, force)  # again: another sharing may have ended there since
        folder.place(out, files)
    return sorted(files)


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced; nothing where there is none."""
    if not path.is_file():
        return ()
    facts = path.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def read_public(path: Path) -> Erasure:
    """An erasure that may be shared; FileFormatError where the file is a hidden prompt, or says something private."""
    _, metadata = read_tensors(path)
    if metadata.get("hidden_prompt.schema") == PROMPT_SCHEMA:
        raise FileFormatError(
            f"{path} is a hidden prompt, which brings the concept back: keep it private, and share the erasure beside it"
        )
    erasure = load_erasure(path)
    if path.suffix != folder.TENSORS:
        raise FileFormatError(
            f"{path}: programs list LoRAs that end in {folder.TENSORS}; give the file that name first"
        )
    private = [key for key, value in metadata.items() if any(word in key or word in value for word in PRIVATE)]
    if private:
        raise FileFormatError(
            f"{path} holds something of a hidden prompt in its metadata ({private[0]}): some program wrote it there; share "
            "the file that `erase` wrote"
        )
    return erasure


def _drawn(erasure: Erasure, shown: figures.Shown, drawing: Drawing) -> figures.Shown:
    """With the picture and the figures that are missing."""
    model = drawing.open_model()
    check_fits(erasure, model.denoiser.family, model.denoiser.all_weights())
    if erasure.base_hash != model.denoiser.base_hash:
        log.warning("the erasure was made on another model of this family: the picture shows it on the one given")
    if shown.picture is None:
        shown = replace(shown, picture=before_after(model, erasure, ()))
    if not shown.suites:
        try:
            rows = figures.rows_of(score_erasure(model, erasure, n=drawing.images))
            shown = replace(shown, suites={figures.SUITE: figures.suite_of(rows)})
        except RequestError as error:  # no judge, or a category
            log.warning("the card has no figures: %s", error)
    return shown


def _others(erasure: Erasure, name: str, data: bytes, wishes: Wishes, shown: figures.Shown) -> dict[str, bytes]:
    """Everything beside the erasure's own file."""
    others: dict[str, Any] = figures.files(name.removesuffix(folder.TENSORS), erasure, shown)
    template = workflow.template()
    if template is not None:
        others[folder.WORKFLOW] = workflow.filled(template, _filling(erasure, name, data, wishes))
    said = Said(erasure, name, len(data), wishes, shown.suites, shown.picture is not None, template is not None)
    others[folder.CARD] = card(said).encode("utf-8")
    return {name: value if isinstance(value, bytes) else _json(value) for name, value in others.items()}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode("utf-8")


def _filling(erasure: Erasure, name: str, data: bytes, wishes: Wishes) -> workflow.Filling:
    facts = model_spec.family_facts(erasure.family, erasure.facts.get("modelspec.prediction_type", "epsilon"))
    side = int(facts.get("modelspec.resolution", "512x512").partition("x")[0])
    base = wishes.base.rpartition("/")[2].removesuffix(folder.TENSORS)
    checkpoint = workflow.POCKETS.get(erasure.family, f"{base or 'choose-yours'}{folder.TENSORS}")
    concept = json.loads(erasure.fact("targets"))[0]
    return workflow.Filling(name, hashlib.sha256(data).hexdigest(), concept, checkpoint, side)
