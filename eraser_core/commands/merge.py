"""`merge`: a whole checkpoint with erasures in it."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from ..backends.checkpoint import open_checkpoint
from ..backends.stored_model import Loading
from ..erasure import load_erasure
from ..errors import OutputError, RequestError
from ..files import sweep_file
from ..locks import locked
from ..many.files import listed
from ..merge import merge
from ..pocket.concepts import FAMILIES
from .said import command

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Write one file."""
    args.erasure = listed(args.erasure)
    model = Path(args.model)
    if args.model in FAMILIES:
        targets = json.loads(load_erasure(args.erasure[0]).facts.get("erasure.targets", "[]"))
        first = command("generate", "--erasure", args.erasure[0], "--prompt", *targets[:1])
        raise RequestError(
            f"the pocket model is a part of this program and is not written anew: draw with the erasure instead (`{first}`), "
            "or name a .safetensors checkpoint"
        )
    if (model / "transformer").is_dir():
        raise RequestError(f"{model} is a transformer, and merge takes none: load the erasure as a LoRA in ComfyUI")
    if model.is_dir():
        raise RequestError(f"{model} is a folder, and merge writes single files: name a .safetensors checkpoint")
    _claim(args.out, args.force)
    erasures = [load_erasure(path) for path in args.erasure]
    base_hash = open_checkpoint(model, Loading()).base_hash()
    for path, erasure in zip(args.erasure, erasures, strict=True):
        if erasure.base_hash != base_hash:
            log.warning("%s was made on another model of this family: it may erase less", path)
    if len(erasures) > 1:
        log.warning(
            "%d erasures are stacked, which may harm the rest: `combine` makes one of them first", len(erasures)
        )
    with locked(args.out.with_name(f".{args.out.name}.lock"), args.out):
        sweep_file(args.out)
        _claim(args.out, args.force)  # again: another merge may have ended there since
        changed = merge(model, erasures, args.strength, args.out)
    log.info("written: %s (%d weights changed)", args.out, changed)
    return 0


def _claim(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise OutputError(f"{out} is there already: choose another name, or replace it with --force")
