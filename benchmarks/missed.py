"""How small may the file of a closed form be? The share of its movement of the texts that the rank leaves out, against what is seen.

    python benchmarks/missed.py --objects church --images 16
    python benchmarks/missed.py
    python benchmarks/missed.py --smoke

`rank_by_matrix` is what the same share of the matrix E itself would take. UCE (`moments`) on objects of the pocket model, each
with its own random half of the others as retain set. Pictures by DPM-Solver++ in 8 steps. A row a (missed, concept) in out/benchmarks/missed.json; a rerun goes on.
"""

from __future__ import annotations

import argparse
import sys

import common
import torch
from overshoot import OBJECTS, STEPS

from eraser_core.erasure import FrozenEdit
from eraser_core.evaluation.metrics.objects import esr, psr
from eraser_core.evaluation.pocket.tasks import Task
from eraser_core.models import Model, open_model
from eraser_core.text_moments import KEPT, OVERSHOOT, RIDGE, joint_map
from eraser_core.text_space import entries

SHARES = (1e-4, 1e-3, 1e-2)
KEY = ("missed", "concept", "n")
FIGURES = ("rank", "rank_by_matrix", "mb", "esr1", "psr1", "psr1_retained")


def figures(model: Model, task: Task, missed: float) -> common.Row:
    """What is seen of the edit as a file in fp16 holds it, and the file's size."""
    found = joint_map(model.denoiser, task.request, KEPT, RIDGE, OVERSHOOT, general=True)
    made = entries(model.denoiser.weights("xattn-kv"), *found.factors(missed), "kv")
    energy = torch.linalg.svdvals(found.e).square()
    halves = [entry.to(torch.float16) for entry in made.values()]
    edit = FrozenEdit({key: entry.delta() for key, entry in zip(made, halves, strict=True)})
    row: common.Row = {
        "rank": max(getattr(entry, "rank", 0) for entry in halves),
        "rank_by_matrix": int((energy.cumsum(0) / energy.sum() < 1 - missed).sum()) + 1,
        "mb": sum(2 * t.numel() for entry in halves for t in entry.tensors().values()) / 1e6,
        "esr1": esr(model.examiner.ranks(task.sheets["erased"], edit)).value,
    }
    for name, of in (("psr1", "kept"), ("psr1_retained", "retained")):
        row[name] = psr(model.examiner.ranks(task.sheets[of], edit)).value
    return row


def main() -> int:
    """Run what is missing, print the means and the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32, help="pictures a share")
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--smoke", action="store_true", help="one object, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    name, n = ("missed_smoke", 4) if args.smoke else ("missed", args.images)
    rows = common.Rows(name, KEY, fresh=args.smoke)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else STEPS, solver="dpmpp")
    for concept in args.objects[:1] if args.smoke else args.objects:
        task = common.task_of(model, concept, True, 0, n)
        for missed in SHARES:
            key = {"missed": f"{missed:g}", "concept": concept, "n": n}
            if not rows.has(key):
                rows.add({**key, **figures(model, task, missed), "machine": common.machine()})
    means = common.table(common.means(rows.rows, ("missed",), FIGURES), ("missed", "runs", *FIGURES))
    each = common.table(rows.rows, ("missed", "concept", "n", *FIGURES))
    common.show(name, f"## Means\n\n{means}\n## Runs\n\n{each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
