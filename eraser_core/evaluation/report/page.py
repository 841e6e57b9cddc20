"""`report.html`: one self-contained page of a run's tables, sample grids and figures."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..suites.ablations import SETTINGS, lambda_points
from ..suites.items import Item, Subject
from ..suites.manifest import COSINES, MAPS, Plan, Unit, Variant
from ..suites.runner import read_pictures
from .chapter import STYLE
from .grid import grid, png
from .plots import lambdas, shown
from .quoted import SOURCE
from .tables import Table

PER_CELL, ROWS, CELL = 2, 8, 96
QUOTED_STYLE = ".quoted td{color:#777;font-style:italic}"
# Tells whether a picture of a model may be shown as it is; others are pixelated.
Showable = Callable[[Variant, Item], bool]


def sample_grids(plan: Plan, out: Path, showable: Showable) -> dict[str, Image.Image]:
    """A grid for the erasures of each set of targets: concepts in the suite's order, by the models that drew them."""
    found = {}
    for targets in dict.fromkeys(s.targets for s in plan.subjects):
        own = [s for s in plan.subjects if s.targets == targets]
        found[f"samples: {', '.join(targets)} erased"] = sample_grid(plan, out, own, showable)
    return found or {"samples": sample_grid(plan, out, [], showable)}


def sample_grid(plan: Plan, out: Path, subjects: Sequence[Subject], showable: Showable) -> Image.Image:
    """Untouched and erased pictures of the same seeds side by side; the concepts that are erased come first."""
    variants = [v for v in plan.variants if v.subject is None or v.subject in subjects]
    asked_of: Sequence[Subject | None] = subjects or [None]
    items = [item for subject in asked_of for item in plan.items if plan.suite.draws(subject, item)]
    concepts = dict.fromkeys(c for c in plan.suite.concepts_shown if any(i.concept == c for i in items))
    erased = [c for c in concepts if any(_erased(plan, s, items, c) for s in subjects)]
    rows = []
    for concept in [*erased[: ROWS - 3], *(c for c in concepts if c not in erased)][:ROWS]:
        asked = list({i.index: i for i in items if i.concept == concept}.values())[:PER_CELL]
        images = [_pictures(plan, out, variant, asked, showable) for variant in variants]
        size = max(image.shape[-1] for image in images)
        cells = [i if i.shape[-1] == size else torch.ones(PER_CELL, 3, size, size) for i in images]
        rows.append((concept, torch.cat(cells)))
    return grid(rows, [v.name for v in variants], PER_CELL, cell=CELL)


def _erased(plan: Plan, subject: Subject, items: Sequence[Item], concept: str) -> bool:
    return any(i.concept == concept and plan.suite.target_of(subject, i) is not None for i in items)


def _pictures(plan: Plan, out: Path, variant: Variant, items: Sequence[Item], showable: Showable) -> Tensor:
    """[PER_CELL, 3, h, w]; blank for what this model was not asked for."""
    unit = Unit(variant, 0, tuple(items))
    there = [item for item in items if unit.picture(out, item).is_file()]
    if not there:
        return torch.ones(PER_CELL, 3, 1, 1)
    images = read_pictures([unit.picture(out, item) for item in there])
    for i, item in enumerate(there):
        if not showable(variant, item):
            images[i] = _pixelated(images[i])
    blank = torch.ones(PER_CELL - len(images), *images.shape[1:])
    return torch.cat([images, blank])


def _pixelated(image: Tensor, cells: int = 8) -> Tensor:
    small = torch.nn.functional.adaptive_avg_pool2d(image[None], cells)
    return torch.nn.functional.interpolate(small, size=image.shape[-2:])[0]


def report(
    title: str,
    facts: str,
    tables: Sequence[Table],
    missing: Mapping[str, str],
    grids: Mapping[str, Image.Image],
    drawings: Mapping[str, str],
    out: Path,
) -> str:
    """The page. `drawings` are further figures by caption, as HTML."""
    parts = [f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title>"]
    parts.append(f"<style>{STYLE}{QUOTED_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(facts)}</p>")
    parts += [f"<p class=bad>{html.escape(n)} is left out: {html.escape(why)}</p>" for n, why in missing.items()]
    for table in tables:
        parts.append(f"<div style='overflow-x:auto'>{table.html()}</div>")
        if SETTINGS[0] in table.columns and (points := lambda_points(table)):
            drawn = shown(partial(lambdas, points))
            parts.append(_figure(drawn, "Influence of lambda on erasing and preservation"))
    parts += [_figure(drawn, caption) for caption, drawn in drawings.items()]
    for caption, picture in grids.items():
        parts.append(_figure(_image(png(picture), caption), caption))
    if (out / MAPS).is_file():
        caption = (
            "Attribution maps of the erased words (DAAM): picture and map, untouched, erased, with the hidden prompt"
        )
        parts.append(_figure(_image((out / MAPS).read_bytes(), caption), caption))
    if (out / COSINES).is_file():
        caption = "Cosine similarity between visual and textual features, a line an attn2 block, red first"
        parts.append(_figure((out / COSINES).read_text(encoding="utf-8"), caption))
    return "\n".join([*parts, f"<p>{html.escape(SOURCE)}.</p>"]) + "\n"


def _image(data: bytes, caption: str) -> str:
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img alt="{html.escape(caption)}" src="data:image/png;base64,{encoded}">'


def _figure(inside: str, caption: str) -> str:
    return f"<figure style='overflow-x:auto'>{inside}<figcaption>{html.escape(caption)}</figcaption></figure>"
