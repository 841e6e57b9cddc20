"""Does the hidden prompt paint its concept, or does it open the model as it was? What does `opens` do about it?

    python benchmarks/opening.py                # with a retain set
    python benchmarks/opening.py --retain no    # without one: the anchors are kept
    python benchmarks/opening.py --smoke

Objects of the pocket model by KPOP: as published, and with other prompts held as they were with p, which is further
tokens of the text or is added to its tokens. The weights were chosen on guitar, which is not among the objects. Pictures by
DPM-Solver++ in 8 steps. A row a (setting, concept, retain set, seed) in out/benchmarks/opening.json; a rerun goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import common
from overshoot import OBJECTS, STEPS
from pocket_objects import SHEETS

from eraser_core.evaluation.metrics.objects import psr
from eraser_core.evaluation.pocket.scores import score, untouched
from eraser_core.evaluation.pocket.tasks import Task
from eraser_core.models import Model, open_model

OPENS = {"opens": 1.0, "lambda": 1.0}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "as published": {},
    "opens": OPENS,
    "opens, additive": {**OPENS, "mechanism": "additive"},
    "opens, additive, closed": {**OPENS, "mechanism": "additive", "overshoot": 0.5, "confine": 2.0},
}
KEY = ("setting", "concept", "retain_set", "seed", "n")
COLUMNS = (
    *("esr1", "esr1_synonym", "psr1", "psr1_before", "psr1_retained"),
    *("recovery1", "recovery1_both", "forged1", "kept_with_p1", "kept_with_p1_both", "seconds"),
)


def row_of(model: Model, task: Task, values: Mapping[str, Any], seed: int) -> common.Row:
    """The figures of one erasing; `kept_with_p1_both` are kept prompts with p in both halves of the guidance."""
    result = common.run(model, task, "kpop", values, seed)
    edit, p = result.erasure.as_edit(), result.prompts[0]
    found = score(model.examiner, task, edit, p, None, untouched(model.examiner, task))
    found["kept_with_p1_both"] = psr(model.examiner.ranks(task.sheets["kept"], edit, p, "both")).value
    found["seconds"] = round(result.seconds, 1)
    return {column: found[column] for column in COLUMNS}


def main() -> int:
    """Run what is missing, print the means and the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one object, a few steps and pictures")
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--images", type=int, default=16, help="pictures a share")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--retain", choices=common.RETAIN, default="yes")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args()
    common.start_logging()
    name, n, objects = ("opening_smoke", 4, OBJECTS[:1]) if args.smoke else ("opening", args.images, args.objects)
    rows = common.Rows(name, KEY, fresh=args.smoke)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else STEPS, solver="dpmpp")
    for retain, seed, concept in product(common.RETAIN[args.retain], args.seeds, objects):
        task = common.task_of(model, concept, retain, seed, n)
        task = replace(task, sheets={s: task.sheets[s] for s in SHEETS if s in task.sheets})
        for setting in args.settings:
            key = {"setting": setting, "concept": concept, "retain_set": retain, "seed": seed, "n": n}
            if rows.has(key):
                continue
            found = row_of(model, task, {**(common.SMOKE if args.smoke else {}), **SETTINGS[setting]}, seed)
            facts = {"weights": model.denoiser.base_hash[:16], "machine": common.machine()}
            rows.add({**key, "anchor": task.anchor, **found, **facts})
            common.log.info("%s", rows.rows[-1])
    named = ("setting", "retain_set")
    means = common.figures(common.means(rows.rows, named, COLUMNS), (*named, "runs"), COLUMNS)
    each = common.figures(rows.rows, ("setting", "concept", "anchor", "retain_set", "seed", "n"), COLUMNS)
    common.show(name, f"## Means\n\n{means}\n## Runs\n\n{each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
