"""Does the anchor in a negative prompt bring the concept back, and what does an overshoot of the target do about it?

    python benchmarks/overshoot.py
    python benchmarks/overshoot.py --styles --ways "KPOP, confined" --overshoots 0.5
    python benchmarks/overshoot.py --list     # UCE's, for the ten objects of pocket_objects.py at once
    python benchmarks/overshoot.py --smoke

Objects of the pocket model; each with its own random half of the others as retain set. The overshoots were chosen on guitar,
dog and truck, which are not among these. Training with the demo's settings, pictures by DPM-Solver++ in 8 steps. A column
`same` has the prompt itself with the anchor in its place as the negative prompt, `alone` the anchor without a prompt round
it, at the guidance scale that is named. A row a (method, overshoot, concept) in out/benchmarks/overshoot.json; a rerun goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import common
import many
import torch
from pocket_objects import OBJECTS as TUNED
from pocket_styles import STYLES

from eraser_core.denoiser import Context, Edit
from eraser_core.evaluation.examiner import Question
from eraser_core.evaluation.metrics.objects import esr, psr
from eraser_core.evaluation.pocket.tasks import Task
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.methods import METHODS
from eraser_core.models import Model, open_model
from eraser_core.sampling import noise_for

OBJECTS = ("church", "airplane", "camera", "hammer", "mushroom", "crown", "soccer ball")
DEMO: Mapping[str, Any] = {"pool_size": 96, "sampler_steps": 8}
# name: method, its settings, overshoots
WAYS: Mapping[str, tuple[str, Mapping[str, Any], tuple[float, ...]]] = {
    "UCE, moments": ("uce", {}, (0.0, 0.3)),
    "TIME": ("time", {}, (0.0, 0.5)),
    "Double Projections": ("dp", {}, (0.0, 0.5)),
    "KPOP": ("kpop", DEMO, (0.0, 0.5)),
    "KPOP, confined": ("kpop", {**DEMO, "confine": 2}, (0.0, 0.5)),
    "CA": ("ca", DEMO, (0.0, 0.5)),
    "CA, confined": ("ca", {**DEMO, "confine": 2}, (0.5,)),
}
GUIDANCE = (3, 6)
KEY = ("way", "overshoot", "concept", "n")
FIGURES = (
    *(f"{how}{g}" for how in ("same", "alone") for g in GUIDANCE),
    *("esr1", "psr1", "psr1_retained", "psr1_lookalike", "recovery1", "kept_with_p1"),
)
STEPS = 8


def negative(model: Model, sheet: Sequence[Question], against: Context, guidance: float, edit: Edit) -> float:
    """The share of a sheet's pictures that show the concept although `against` [1 or n, l, d] is the negative prompt."""
    examiner, denoiser = model.examiner, model.denoiser
    noise = noise_for(denoiser.latent_shape, examiner.suite_seed, [q.index for q in sheet])
    images = examiner.draw_from(noise, denoiser.encode([q.prompt for q in sheet]), against, guidance, edit)
    return psr(examiner.rank_images(sheet, images)).value


def figures(model: Model, task: Task, edit: Edit, hidden: HiddenPrompt | None) -> common.Row:
    """Every share of one edit; None for a sheet that is empty."""
    examiner, denoiser, sheet = model.examiner, model.denoiser, task.sheets["erased"]
    phrase = next(target.concept for target in task.request.targets)
    contexts = {
        "same": denoiser.encode([q.prompt.replace(phrase, task.anchor) for q in sheet]),
        "alone": denoiser.encode([task.anchor]),
    }
    row: common.Row = {
        f"{how}{g}": negative(model, sheet, against, float(g), edit)
        for how, against in contexts.items()
        for g in GUIDANCE
    }
    row["esr1"] = esr(examiner.ranks(sheet, edit)).value
    for name, of in (("psr1", "kept"), ("psr1_retained", "retained"), ("psr1_lookalike", "look_alike")):
        questions = task.sheets.get(of, ())
        row[name] = psr(examiner.ranks(questions, edit)).value if questions else None
    row |= {"recovery1": None, "kept_with_p1": None}
    if hidden is not None:
        row["recovery1"] = psr(examiner.ranks(sheet, edit, hidden)).value
        row["kept_with_p1"] = psr(examiner.ranks(task.sheets["kept"], edit, hidden)).value
    return row


def listed(model: Model, n: int) -> int:
    """A row an overshoot in out/benchmarks/overshoot_list.json: a list of ten, n pictures a share, seed 0."""
    rows = common.Rows("overshoot_list", ("overshoot", "n"))
    of = many.lists(model, TUNED, 0)
    for b in (0.0, 0.3, 0.5):
        if rows.has({"overshoot": b, "n": n}):
            continue
        edit = many.at_once(model, of, "uce", {"overshoot": b}, 0).erasure.as_edit()
        gone = [model.examiner.ranks(many.asked(model, [c], max(n // len(TUNED), 1), 0), edit) for c in of.erased]
        kept = model.examiner.ranks(many.asked(model, of.unnamed, n, 30_000), edit)
        rows.add({"overshoot": b, "n": n, "esr1": esr(torch.cat(gone)).value, "kept1": psr(kept).value})
    common.show(rows.path.stem, common.table(rows.rows, ("overshoot", "n", "esr1", "kept1")))
    return 0


def main() -> int:
    """Run what is missing, print the means and the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16, help="pictures a share")
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--overshoots", type=float, nargs="*", help="of those of the ways (default: all)")
    parser.add_argument("--styles", action="store_true", help="the six styles, in overshoot_styles.json")
    parser.add_argument("--list", action="store_true", help="ten objects in one closed form")
    parser.add_argument("--smoke", action="store_true", help="one object, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    name = "overshoot_styles" if args.styles else "overshoot"
    name, n = (f"{name}_smoke", 4) if args.smoke else (name, args.images)
    asked = STYLES if args.styles else args.objects
    rows = common.Rows(name, KEY, fresh=args.smoke)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else STEPS, solver="dpmpp")
    if args.list:
        return listed(model, n if args.smoke else 200)
    for way in args.ways:
        method, settings, overshoots = WAYS[way]
        for concept in asked[:1] if args.smoke else asked:
            task = common.task_of(model, concept, True, 0, n)
            for b in overshoots if args.overshoots is None else args.overshoots:
                key = {"way": way, "overshoot": b, "concept": concept, "n": n}
                if rows.has(key):
                    continue
                short = (
                    {**common.SMOKE, **common.SHORT_START.get(method, {})}
                    if args.smoke and METHODS[method].learner
                    else {}
                )
                made = common.run(model, task, method, {**settings, **short, "overshoot": b}, 0)
                hidden = made.prompts[0] if made.prompts else None
                found = figures(model, task, made.erasure.as_edit(), hidden)
                rows.add({**key, "anchor": task.anchor, **found, "machine": common.machine()})
    named = ("way", "overshoot")
    means = common.table(common.means(rows.rows, named, FIGURES), (*named, "runs", *FIGURES))
    each = common.table(rows.rows, (*named, "concept", "anchor", "n", *FIGURES))
    common.show(name, f"## Means\n\n{means}\n## Runs\n\n{each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
