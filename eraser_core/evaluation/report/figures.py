"""The slides' figures of a run: attribution maps of the erased words, and the cosines of visual and textual features.

Drawn once, after the tables' pictures, from the first picture of each erasure's first target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...denoiser import Context, Edit
from ...errors import EraserError
from ...files import write_bytes
from ...models import Model
from ...sampling import seeded_noise
from ..metrics.attention import added_positions, word_positions
from ..metrics.attribution import heat_maps, overlay
from ..metrics.similarity import cosines
from ..optional import optional
from ..suites.items import UNTOUCHED, Item, Subject
from ..suites.manifest import COSINES, MAPS, Plan
from . import plots
from .grid import grid, png

CELL = 128
Chosen = Sequence[tuple[Subject, Item]]


def draw_figures(model: Model, plan: Plan, edits: Mapping[str, Edit], out: Path, most: int) -> dict[str, str]:
    """Write the figures of the first `most` erasures that are not there yet; what prevents each of them, by its name."""
    chosen = [(s, item) for s in plan.subjects[:most] if (item := _first(plan, s)) is not None]
    prevented = {}
    for path, name, draw in ((out / MAPS, "attribution maps", _maps), (out / COSINES, "cosines", _cosines)):
        if chosen and not path.is_file():
            try:
                write_bytes(path, draw(model, chosen, edits))
            except EraserError as error:
                prevented[name] = str(error)
    return prevented


def _first(plan: Plan, subject: Subject) -> Item | None:
    """The first picture that asks for a target by a word in its prompt."""
    for item in plan.items:
        if plan.suite.draws(subject, item) and plan.suite.target_of(subject, item) == 0 and item.word in item.prompt:
            return item
    return None


def _contexts(model: Model, subject: Subject | None, item: Item) -> tuple[Context, Context]:
    context, negative = model.denoiser.encode([item.prompt]), model.denoiser.encode([""])
    if subject is None:
        return context, negative
    return subject.prompts[0].join(context, negative)


def _noise(model: Model, item: Item) -> Tensor:
    noise = seeded_noise(model.denoiser.latent_shape, [item.noise_seed(model.examiner.suite_seed)])
    return noise.to(model.denoiser.device)


def _guidance(model: Model, item: Item) -> float:
    return model.examiner.guidance if item.guidance is None else item.guidance


def _maps(model: Model, chosen: Chosen, edits: Mapping[str, Edit]) -> bytes:
    """A PNG with a row an erasure."""
    rows = [_row(model, subject, item, edits[subject.name]) for subject, item in chosen]
    columns = ["untouched", "its map", "erased", "its map", "hidden prompt", "its map"]
    blank = torch.ones(1, *rows[0][1].shape[1:])
    filled = [(label, torch.cat([images, blank.expand(6 - len(images), -1, -1, -1)])) for label, images in rows]
    return png(grid(filled, columns, 1, cell=CELL))


def _row(model: Model, subject: Subject, item: Item, edit: Edit) -> tuple[str, Tensor]:
    """Picture and overlay untouched, erased and with the hidden prompt where there is one: [4 or 6, 3, h, w]."""
    places = word_positions(model.denoiser, item.prompt, item.word)
    shown = []
    for e, hidden in ((None, None), (edit, None), (edit, subject)):
        if hidden is not None and not subject.prompts:
            continue
        context, negative = _contexts(model, hidden, item)
        steps, guidance = model.examiner.steps, _guidance(model, item)
        found = heat_maps(model.denoiser, _noise(model, item), context, negative, steps, guidance, e)
        images = model.denoiser.decode(found.latents)
        shown += [images, overlay(images, found.of(places))]
    return f"{subject.name}: {item.word}", torch.cat(shown)


def _cosines(model: Model, chosen: Chosen, edits: Mapping[str, Edit]) -> bytes:
    """An SVG of the first word's curves: untouched, after every erasure that has it as its first target, and of p where it
    is used."""
    optional("matplotlib", "the figure of cosines", "matplotlib")  # said before anything is computed for it
    item = chosen[0][1]
    word = {"word": word_positions(model.denoiser, item.prompt, item.word)}
    steps, guidance, noise = model.examiner.steps, _guidance(model, item), _noise(model, item)
    plain, negative = _contexts(model, None, item)
    found = {UNTOUCHED: cosines(model.denoiser, noise, plain, negative, steps, guidance, word)}
    for subject in (s for s, own in chosen if own == item):
        edit = edits[subject.name]
        found[subject.name] = cosines(model.denoiser, noise, plain, negative, steps, guidance, word, edit)
        if subject.prompts:
            context, empty = _contexts(model, subject, item)
            added = added_positions(plain, context)
            groups = {**word, **({"p": added} if added else {})}
            with_p = cosines(model.denoiser, noise, context, empty, steps, guidance, groups, edit)
            found[f"{subject.name} + p"] = with_p
    curves = {f"{name}: {t}": c.curves(t) for name, c in found.items() for t in c.values}
    return plots.cosines(curves, found[UNTOUCHED].timesteps).encode("utf-8")
