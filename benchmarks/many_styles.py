"""All styles but one: five of the pocket model's six styles erased in one model, each drawn in the one that is left.

    python benchmarks/many_styles.py
    python benchmarks/many_styles.py --smoke

The styles are erased in the prompts of half of the objects and scored on the other half (the half by the seed). The row
of a kept style has, of --images pictures each: `esr1`, the share of the five styles' pictures that are not in their style,
and `style1`, the share of the kept style's that are in it; `recovery1` is of the five with their own hidden prompts. KPOP is
trained for the first and the last style alone. Pictures by DPM-Solver++ in 8 steps. A row a (way, kept style, seed) in
out/benchmarks/many_styles.json; a rerun goes on.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import common
import torch
from many import STEPS, more_steps

from eraser_core.denoiser import Edit
from eraser_core.erasing import configure, erase
from eraser_core.evaluation.metrics.objects import esr, psr
from eraser_core.evaluation.pocket.tasks import style_questions, style_task, together
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.methods import METHODS
from eraser_core.models import Model, open_model

STYLES = ("ink", "clay", "twemoji", "blob", "fluent", "pixel")
KEY = ("way", "kept_style", "n", "seed")
COLUMNS = ("way", "kept_style", "seed", "n", "esr1", "style1", "recovery1", "seconds")
# name: method, settings
WAYS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "UCE, moments": ("uce", {}),
    "UCE, its authors' code": ("uce", {"preset": "current"}),
    "Double Projections": ("dp", {}),
    "KPOP": ("kpop", more_steps("kpop")),
}


def scored(
    model: Model,
    styles: Sequence[str],
    kept: str,
    seed: int,
    edit: Edit | None,
    prompts: Sequence[HiddenPrompt],
    n: int,
) -> common.Row:
    """The shares under one edit; the objects are those that no erasing named (`style_task` draws the same half)."""
    concepts, examiner = common.concepts_of(model), model.examiner
    objects = random.Random(f"style/{seed}").sample(concepts.drawn, len(concepts.drawn))[1::2]
    each = max(n // len(styles), 1)
    sheets = [style_questions(concepts, objects, [(style, style)], each, 0) for style in styles]
    gone = esr(torch.cat([examiner.ranks(sheet, edit) for sheet in sheets]))
    stays = psr(examiner.ranks(style_questions(concepts, objects, [(kept, kept)], n, 30_000), edit))
    row: common.Row = {"esr1": gone.value, "esr1_interval": gone.interval(), "recovery1": None}
    row |= {"style1": stays.value, "style1_interval": stays.interval()}
    if prompts:
        found = psr(torch.cat([examiner.ranks(s, edit, p) for s, p in zip(sheets, prompts, strict=True)]))
        row |= {"recovery1": found.value, "recovery1_interval": found.interval()}
    return row


def run(model: Model, rows: common.Rows, kept: str, ways: Collection[str], seed: int, n: int, smoke: bool) -> None:
    """Every one of these ways for one kept style."""
    concepts = common.concepts_of(model)
    styles = [style for style in STYLES if style != kept]
    tasks = [style_task(concepts, model.denoiser, s, anchor=kept, retain=[kept], seed=seed) for s in styles]
    request = together(tasks, seed)
    named = {"kept_style": kept, "n": n, "seed": seed}

    def add(way: str, edit: Edit | None, prompts: Sequence[HiddenPrompt], seconds: float | None) -> None:
        figures = scored(model, styles, kept, seed, edit, prompts, n)
        rows.add({**named, "way": way, "machine": common.machine(), "seconds": seconds, **figures})
        common.log.info("%s", rows.rows[-1])

    if not rows.has({**named, "way": "untouched"}):
        add("untouched", None, (), None)
    for way in ways:
        method, values = WAYS[way]
        if rows.has({**named, "way": way}) or (method == "kpop" and kept not in (STYLES[0], STYLES[-1])):
            continue
        values = {**values, **common.SMOKE} if smoke and method == "kpop" else values
        settings = configure(METHODS[method], model.denoiser.family, request, values)
        made = erase(model.denoiser, request, METHODS[method], settings, key_seed=seed)
        add(way, made.erasure.as_edit(), made.prompts, made.seconds)


def main() -> int:
    """All rows, the means, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200, help="pictures a share")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--styles", nargs="*", default=STYLES, choices=STYLES, help="which styles are kept, one a row")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--smoke", action="store_true", help="one kept style, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("many_styles_smoke" if args.smoke else "many_styles", KEY, fresh=args.smoke)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else STEPS, solver="dpmpp")
    for kept in STYLES[:1] if args.smoke else args.styles:
        run(model, rows, kept, args.ways, args.seed, 5 if args.smoke else args.images, args.smoke)
    means = common.means(rows.rows, ("way",), ("esr1", "style1", "recovery1"))
    tables = common.table(means, ("way", "runs", "esr1", "style1", "recovery1")), common.table(rows.rows, COLUMNS)
    common.show(rows.path.stem, "\n".join(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
