"""`generate`: pictures from a model, with erasures and a hidden prompt if given."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from ..denoiser import Context
from ..erasure import FrozenEdit, check_fits, load_erasure, stack
from ..errors import RequestError
from ..evaluation.examiner import BATCH
from ..evaluation.report import grid
from ..files import write_bytes
from ..hidden_prompt import HiddenPrompt, load_prompts, pick
from ..many.files import listed
from ..many.harm import stacked
from ..models import Model
from . import checks
from .loading import opened
from .progress import drawing

log = logging.getLogger(__name__)
DEFAULT = Path("out/generated.png")


def run(args: argparse.Namespace) -> int:
    """Write one PNG with a row a prompt, and every picture beside it."""
    out = args.out or free(DEFAULT)
    checks.writable_file(out)
    checks.named(args.prompt, "--prompt")
    model = opened(args)
    checks.fits(model.denoiser.excess, args.prompt)
    edit = load_edit(model, listed(args.erasure), args.strength)
    hidden = prompts_for(args.hidden_prompt, args.concept, len(args.prompt))
    with drawing(model.examiner, "drawing", args.n * len(args.prompt)):
        rows = _draw(args, model, edit, hidden)
    pictures = [image for _, images in rows for image in images]
    cell = grid.native(pictures[0][None])
    write_bytes(out, grid.png(grid.grid(rows, ["" for _ in range(args.n)], 1, cell)))
    singles = [out.with_name(f"{out.stem}_{i:02d}.png") for i in range(1, len(pictures) + 1)]
    for path, picture in zip(singles, pictures, strict=True):
        write_bytes(path, grid.png(grid.to_pil(picture, cell)))
    log.info("written: %s, and its pictures %s to %s", out, singles[0].name, singles[-1].name)
    return 0


def free(path: Path) -> Path:
    """This file, or where there is one already the first of path-2, path-3, ... that is not there."""
    names = (path.with_stem(f"{path.stem}-{i}") for i in count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())


def _draw(
    args: argparse.Namespace, model: Model, edit: FrozenEdit | None, hidden: Sequence[HiddenPrompt | None]
) -> list[tuple[str, Tensor]]:
    """Every prompt with its pictures [n, 3, h, w]; `hidden` has one a prompt."""
    rows = []
    for prompt, key in zip(args.prompt, hidden, strict=True):
        context, negative = model.denoiser.encode([prompt]), model.denoiser.encode([""])
        if args.pooled_from is not None:
            context = pooled_from(context, model.denoiser.encode([args.pooled_from]))
        if key is not None:
            context, negative = key.join(context, negative, args.prompt_strength, args.prompt_halves)
        batches = [range(args.n)[first : first + BATCH] for first in range(0, args.n, BATCH)]
        drawn = [model.examiner.draw(context.expand(len(i)), negative, i, edit) for i in batches]
        rows.append((prompt, torch.cat(drawn)))
    return rows


def pooled_from(context: Context, other: Context) -> Context:
    """The tokens of one prompt with the pooled embedding of another; RequestError where a model has none."""
    if other.pooled is None:
        raise RequestError("this model has no pooled text embedding: --pooled-from is for SDXL")
    return replace(context, pooled=other.pooled)


def load_edit(model: Model, paths: list[Path], strength: float) -> FrozenEdit | None:
    """The erasures of these files together, checked against the model; None where there is none."""
    erasures = [load_erasure(path) for path in paths]
    for path, erasure in zip(paths, erasures, strict=True):
        check_fits(erasure, model.denoiser.family, model.denoiser.all_weights())
        if erasure.base_hash != model.denoiser.base_hash:
            log.warning("%s was made on another model of this family: it may erase less", path)
    if not erasures:
        return None
    warning = stacked(model.denoiser, erasures, [strength] * len(erasures))
    if warning:
        log.warning("%s", warning)
    edit = stack(erasures, [strength] * len(erasures))
    return FrozenEdit({key: delta.to(model.denoiser.device) for key, delta in edit.deltas.items()})


def prompts_for(paths: list[Path], concepts: Sequence[str], n: int) -> list[HiddenPrompt | None]:
    """The hidden prompt of each of n prompts, None where no file is given. `concepts` names one for all, or one each."""
    if concepts and not paths:
        raise RequestError("--concept says whose hidden prompt is used: name its file with --hidden-prompt")
    if len(concepts) > 1 and len(concepts) != n:
        raise RequestError(f"{len(concepts)} words after --concept for {n} prompts: give one for all, or one each")
    if not paths:
        return [None] * n
    prompts = [prompt for path in paths for prompt in load_prompts(path)[0]]
    try:
        found = [pick(prompts, concept) for concept in concepts or [""]]
    except RequestError as error:
        raise RequestError(f"--concept, of {', '.join(map(str, paths))}: {error}") from error
    return [*found, *found * (n - len(found))]
