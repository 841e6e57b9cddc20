"""KPOP over ten objects of the pocket model: does it erase, keep the rest, and come back with its hidden prompt?

    python benchmarks/pocket_objects.py            # all rows
    python benchmarks/pocket_objects.py --model pocket-flow --name flow_objects
    python benchmarks/pocket_objects.py --smoke    # the same code on two objects, a few steps and pictures

Ten objects, two run seeds (each with its own random half of the other objects as retain set), with and without a
retain set. A row a run in out/benchmarks/pocket_objects.json; an interrupted benchmark goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import common

from eraser_core.erasing import Erased
from eraser_core.evaluation.metrics.objects import Rate
from eraser_core.evaluation.pocket.scores import score, untouched
from eraser_core.evaluation.pocket.tasks import Task
from eraser_core.models import Model

OBJECTS = ("church", "guitar", "truck", "dog", "airplane", "camera", "hammer", "mushroom", "crown", "soccer ball")
SHEETS = ("erased", "synonym", "kept", "retained")
COLUMNS = (
    "esr1",
    "esr1_synonym",
    "psr1",
    "psr1_before",
    "psr1_retained",
    "recovery1",
    "recovery1_both",
    "forged1",
    "forged_other1",
    "kept_with_p1",
    "seconds",
)


def row_of(task: Task, result: Erased, model: Model, other: Erased, before: dict[str, Rate], n: int) -> common.Row:
    """One row: the task's figures under the benchmark's names."""
    edit = result.erasure.as_edit()
    figures = score(model.examiner, task, edit, result.prompts[0], other.prompts[0], before)
    kept = {c: figures.get(c) for c in (*COLUMNS, "esr1_before", "psr1_retained_before", "esr5", "psr5")}
    named = {
        "concept": task.concept,
        "anchor": task.anchor,
        "retain_set": bool(task.retained),
        "seed": task.request.seed,
    }
    facts = {"weights": model.denoiser.base_hash[:16], "machine": common.machine()}
    return {**named, "n": n, **kept, "seconds": round(result.seconds, 1), **facts}


def group(model: Model, rows: common.Rows, objects: Sequence[str], seed: int, retain: bool, args: Any) -> None:
    """All objects of one seed: erased first, then scored, each against the next one's hidden prompt."""
    if all(rows.has({"concept": o, "retain_set": retain, "seed": seed}) for o in objects):
        return
    quick = common.SMOKE if args.smoke else json.loads(args.values)
    tasks = [common.task_of(model, o, retain, seed, args.images) for o in objects]
    tasks = [replace(task, sheets={s: task.sheets[s] for s in SHEETS if s in task.sheets}) for task in tasks]
    results = [common.run(model, task, "kpop", quick, key_seed=seed) for task in tasks]
    for i, task in enumerate(tasks):
        if rows.has({"concept": task.concept, "retain_set": retain, "seed": seed}):
            continue
        before = untouched(model.examiner, task)
        rows.add(row_of(task, results[i], model, results[(i + 1) % len(results)], before, args.images))
        common.log.info("%s", rows.rows[-1])


def main() -> int:
    """Run what is missing, print the table and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two objects, one seed, a few steps and pictures")
    parser.add_argument("--model", choices=("pocket", "pocket-flow"), default="pocket")
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--images", type=int, default=16, help="pictures a scored column")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--retain", choices=common.RETAIN, default="both")
    parser.add_argument("--name", default="pocket_objects", help="name of the JSON file, for runs side by side")
    parser.add_argument("--values", default="{}", help="settings other than the defaults, as JSON")
    parser.add_argument("--take", nargs="*", default=[], help="names whose rows are taken over first")
    args = parser.parse_args()
    common.start_logging()
    if args.smoke:
        args.images, args.seeds, args.name, args.objects = 4, [0], "pocket_objects_smoke", OBJECTS[:2]
    model = common.pocket(3 if args.smoke else None, args.model)
    rows = common.Rows(args.name, ("concept", "retain_set", "seed"), fresh=args.smoke)
    rows.take(args.take)
    for retain in common.RETAIN[args.retain]:
        for seed in args.seeds:
            group(model, rows, args.objects, seed, retain, args)
    each = common.figures(rows.rows, ("concept", "anchor", "retain_set", "seed", "n"), COLUMNS)
    means = common.figures(common.means(rows.rows, ["retain_set"], COLUMNS), ("retain_set", "runs"), COLUMNS)
    common.show(args.name, f"## Means\n\n{means}\n## Runs\n\n{each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
