"""Several concepts: ten erased in one run, and erasures made one by one and stacked afterwards. How much do they disturb?

    python benchmarks/many_stacked.py                # KPOP and UCE, 1, 2, 5 and 10 objects
    python benchmarks/many_stacked.py --counts 10 --images 12
    python benchmarks/many_stacked.py --smoke

A run of several objects takes as many steps as their single runs together, from a pool as large as theirs together. A row is the mean over the erased objects: erased (ESR), the others right (PSR, objects that were neither erased nor
retained), and back with each one's own hidden prompt. `interference` is the ESR of the same objects erased singly minus
this one: what the others' erasures undo.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import common

from eraser_core.denoiser import Edit
from eraser_core.erasing import Erased, configure, erase
from eraser_core.erasure import stack
from eraser_core.evaluation.metrics.objects import esr, psr
from eraser_core.evaluation.pocket.tasks import Task, object_task
from eraser_core.files import write_json
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.methods import METHODS
from eraser_core.models import Model
from eraser_core.request import Request
from eraser_core.training import TrainingSettings

OBJECTS = ("church", "guitar", "truck", "dog", "airplane", "camera", "hammer", "mushroom", "crown", "soccer ball")
COUNTS = (1, 2, 5, 10)
WAYS = ("singly", "stacked", "at once")
KEY = ("method", "way", "concepts", "n", "seed")
NAMED = ("method", "way", "concepts", "n", "seed")
COLUMNS = ("esr1", "interference", "psr1", "psr1_before", "recovery1", "seconds")


def tasks_of(model: Model, names: Sequence[str], n: int, seed: int) -> list[Task]:
    """One task an object; the others to be erased count as kept nowhere."""
    concepts = common.concepts_of(model)
    return [
        object_task(concepts, model.denoiser, name, erased_too=[o for o in names if o != name], n=n, seed=seed)
        for name in names
    ]


def scored(
    model: Model, tasks: Sequence[Task], edits: Sequence[Edit], prompts: Sequence[HiddenPrompt | None]
) -> common.Row:
    """Means over the objects, each under its edit."""
    erased, kept, back = [], [], []
    for task, edit, hidden in zip(tasks, edits, prompts, strict=True):
        erased.append(esr(model.examiner.ranks(task.sheets["erased"], edit)).value)
        kept.append(psr(model.examiner.ranks(task.sheets["kept"], edit)).value)
        if hidden is not None:
            back.append(psr(model.examiner.ranks(task.sheets["erased"], edit, hidden)).value)
    before = [psr(model.examiner.ranks(task.sheets["kept"])).value for task in tasks]
    return {
        "esr1": sum(erased) / len(erased),
        "psr1": sum(kept) / len(kept),
        "psr1_before": sum(before) / len(before),
        "recovery1": sum(back) / len(back) if back else None,
    }


def together(model: Model, tasks: Sequence[Task], method: str, values: Mapping[str, Any], seed: int) -> Erased:
    """All objects in one run: ten targets, one retain set, one hidden prompt each."""
    retain = tuple(dict.fromkeys(prompt for task in tasks for prompt in task.request.retain))
    request = Request(tuple(task.request.targets[0] for task in tasks), retain, seed)
    one = configure(METHODS[method], model.denoiser.family, tasks[0].request, values)
    training = isinstance(one, TrainingSettings)
    # from the model, as the papers do; benchmarks/many.py has KPOP's own choice for several concepts
    steps = {"iterations": len(tasks) * one.iterations, "start": "model", "confine": 0} if training else {}
    settings = configure(METHODS[method], model.denoiser.family, request, {**values, **steps})
    return erase(model.denoiser, request, METHODS[method], settings, key_seed=seed)


def run(
    model: Model, rows: common.Rows, method: str, counts: Sequence[int], n: int, seed: int, values: Mapping[str, Any]
) -> None:
    """All rows of one method that are not there yet."""
    every = tasks_of(model, OBJECTS[: max(counts)], n, seed)

    @cache
    def singles() -> list[Erased]:
        return [common.run(model, task, method, values, key_seed=seed + i) for i, task in enumerate(every)]

    for count in counts:
        tasks = every[:count]
        named = {"method": method, "concepts": count, "n": n, "seed": seed, "machine": common.machine()}
        for way in WAYS if count > 1 else WAYS[:1]:
            if rows.has({**named, "way": way}):
                continue
            if way == "at once":
                once = together(model, tasks, method, values, seed)
                edits, seconds = [once.erasure.as_edit()] * count, once.seconds
                prompts: list[HiddenPrompt | None] = list(once.prompts) or [None] * count
            else:
                some = singles()[:count]
                edits, seconds = [r.erasure.as_edit() for r in some], sum(r.seconds for r in some)
                prompts = [r.prompts[0] if r.prompts else None for r in some]
                if way == "stacked":
                    edits = [stack([r.erasure for r in some], [1.0] * count)] * count
            rows.add({**named, "way": way, **scored(model, tasks, edits, prompts), "seconds": round(seconds, 1)})


def with_interference(rows: Sequence[common.Row]) -> list[common.Row]:
    """The rows with what the other objects' erasures undo."""

    def of_run(row: common.Row) -> tuple[Any, ...]:
        return tuple(row[k] for k in KEY if k != "way")

    alone = {of_run(row): row["esr1"] for row in rows if row["way"] == "singly"}
    return [{**row, "interference": alone[of_run(row)] - row["esr1"]} for row in rows]


def main() -> int:
    """All rows, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=["kpop", "uce"])
    parser.add_argument("--counts", nargs="*", type=int, default=COUNTS, help="how many objects, at most ten")
    parser.add_argument("--images", type=int, default=200, help="pictures an object and sheet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="two objects, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("many_stacked_smoke" if args.smoke else "many_stacked", KEY, fresh=args.smoke)
    model = common.pocket(3 if args.smoke else None)
    for method in args.methods:
        quick = dict(common.SMOKE) if args.smoke and METHODS[method].learner is not None else {}
        counts, n = ((2,), 2) if args.smoke else (args.counts, args.images)
        run(model, rows, method, counts, n, args.seed, quick)
    found = with_interference(rows.rows)
    write_json(rows.path, found)
    sys.stdout.write(common.figures(found, NAMED, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
