"""Every system in the slides, side by side, on a pocket model.

    python benchmarks/methods.py            # all systems, five objects and two styles, two seeds, with and without a
                                            # retain set
    python benchmarks/methods.py --objects truck camera --styles ink --seeds 0    # less
    python benchmarks/methods.py --only esd ca --name methods_b    # some systems, beside another process
    python benchmarks/methods.py --take methods_b                  # the table of all, with that one's runs
    python benchmarks/methods.py --model pocket-flow --name flow_methods    # on the flow-matching pocket model
    python benchmarks/methods.py --smoke

Runs are kept one by one in out/benchmarks/methods_runs.json (an interrupted benchmark goes on); the table of means and
spreads over the runs goes to out/benchmarks/methods.json, methods.csv and methods.md, and as a picture to methods.png.
About three minutes a run of a gradient method on one core, five a style's, two of a closed form: all is some 20 hours.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import common
from matplotlib.figure import Figure

from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.erasure import FrozenEdit
from eraser_core.evaluation.pocket.attack import learnt
from eraser_core.evaluation.pocket.scores import score, untouched
from eraser_core.evaluation.pocket.tasks import Task
from eraser_core.files import write_bytes, write_json
from eraser_core.methods import METHODS
from eraser_core.models import Model
from eraser_core.pocket.concepts import FAMILIES

OBJECTS = ("church", "guitar", "truck", "dog", "camera")
STYLES = ("ink", "pixel")
FLOOR = ("tent", "fountain", "saxophone", "microphone", "pineapple")
FIGURES = (
    "esr1",
    "esr5",
    "psr1",
    "psr5",
    "esr1_synonym",
    "psr1_lookalike",
    "psr1_retained",
    "recovery1",
    "forged1",
    "learnt1",
    "seconds",
)
SPREAD = ("esr1", "esr5", "psr1", "psr5")
KEY = ("method", "preset", "retain_set", "task", "concept", "seed")


@dataclass(frozen=True)
class System:
    """A row of the table: a method and its settings."""

    method: str
    preset: str = "pocket"
    values: Mapping[str, Any] = field(default_factory=dict)


TEXT = {"tune": "text", "rank": 8, "eta": 2e-3}
SYSTEMS = (
    System("sd", "untouched"),
    System("naive"),
    System("esd"),
    System("ca"),
    System("ca", "2e-4", {"eta": 2e-4}),  # rates.md: better for the style, worse for objects
    System("time", "authors"),
    System("uce", "current", {"preset": "current"}),
    System("uce", "paper", {"preset": "paper"}),
    System("uce", "moments"),
    System("dp", "one direction", {"directions": 1}),
    System("dp", "four directions"),
    System("kpop", "concatenative"),
    System("kpop", "additive", {"mechanism": "additive"}),
    System("kpop", "text", TEXT),
)


def task_of(model: Model, name: str, retain: bool, seed: int, n: int) -> Task:
    """The task of an object or a style by its name; the table has no column for descriptions."""
    task = common.task_of(model, name, retain, seed, n)
    return replace(task, sheets={sheet: of for sheet, of in task.sheets.items() if sheet != "description"})


def one(model: Model, system: System, task: Task, seed: int, quick: Mapping[str, Any]) -> common.Row:
    """One run's figures."""
    before = untouched(model.examiner, task)
    edit, hidden, seconds = FrozenEdit({}), None, 0.0
    if system.method != "sd":
        values = {**system.values, **(quick if system.method in ("kpop", "naive", "esd", "ca") else {})}
        result = common.run(model, task, system.method, values, key_seed=seed)
        edit, seconds = result.erasure.as_edit(), result.seconds
        hidden = result.prompts[0] if result.prompts else None
    figures = score(model.examiner, task, edit, hidden, None, before)
    if task.kind == "object":
        figures["learnt1"] = attack(model, task.concept, edit, len(task.sheets["erased"]), quick)
    return {**{f: figures.get(f) for f in FIGURES}, "psr1_before": figures["psr1_before"], "seconds": round(seconds, 2)}


def attack(model: Model, name: str, edit: FrozenEdit, n: int, quick: Mapping[str, Any]) -> float:
    """`learnt1` of an object under an edit."""
    if not isinstance(model.denoiser, PocketDenoiser):
        raise SystemExit("this benchmark needs the pocket model")
    return learnt(model.examiner, model.denoiser, name, edit, n=n, iterations=quick.get("iterations", 200)).value


def same(runs: Sequence[common.Row], wanted: Mapping[str, Any], retain: bool) -> common.Row | None:
    """The row of another seed that this one would repeat: the seed draws retain sets, kept styles and z_t, no more."""
    trained = wanted["method"] in METHODS and METHODS[wanted["method"]].learner is not None
    if trained or retain or wanted["task"] == "style":
        return None
    rest = {k: v for k, v in wanted.items() if k != "seed"}
    found = [row for row in runs if all(row[k] == v for k, v in rest.items())]
    return {**found[0], **wanted} if found else None


def floor(model: Model, names: tuple[str, ...], n: int, quick: Mapping[str, Any], name: str) -> list[common.Row]:
    """`learnt1` of objects that the untouched model never knew: what the column means nothing below."""
    kept = common.Rows(name, ("concept",), fresh=bool(quick))
    for concept in names:
        if not kept.has({"concept": concept}):
            kept.add({"concept": concept, "n": n, "learnt1": attack(model, concept, FrozenEdit({}), n, quick)})
    row = {"method": "floor", "preset": "never shown", "retain_set": False, "task": "object", **dict.fromkeys(FIGURES)}
    found = {"learnt1": common.mean(kept.rows, "learnt1"), "n": n, "runs": len(kept.rows), "seeds": [0]}
    return [{**row, "psr1_before": None, **found}]


def summarise(runs: list[common.Row]) -> list[common.Row]:
    """A row a (system, retain set, task): the mean over runs and the spread of the four figures of the slides."""
    groups: dict[tuple[Any, ...], list[common.Row]] = {}
    place = {(system.method, system.preset): i for i, system in enumerate(SYSTEMS)}
    for run in sorted(runs, key=lambda r: (r["task"], not r["retain_set"], place[r["method"], r["preset"]])):
        groups.setdefault(tuple(run[k] for k in ("method", "preset", "retain_set", "task")), []).append(run)
    rows = []
    for key, group in groups.items():
        row: common.Row = dict(zip(("method", "preset", "retain_set", "task"), key, strict=True))
        row |= {f: common.mean(group, f) for f in (*FIGURES, "psr1_before")}
        for figure in SPREAD:
            row[f"{figure}_sd"] = statistics.pstdev(run[figure] for run in group)
        row |= {"n": group[0]["n"], "runs": len(group), "seeds": sorted({run["seed"] for run in group})}
        rows.append(row)
    return rows


def write(name: str, rows: list[common.Row]) -> None:
    """The table as JSON, CSV and Markdown."""
    write_json(common.OUT / f"{name}.json", rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(common.OUT / f"{name}.csv", text.getvalue().encode("utf-8"))
    common.show(name, tables(rows))


def tables(rows: list[common.Row]) -> str:
    """A Markdown table for each task with and without a retain set; the slides' four figures with their spread over runs."""
    parts = []
    for task, retain in dict.fromkeys((row["task"], row["retain_set"]) for row in rows):
        group = [row for row in rows if (row["task"], row["retain_set"]) == (task, retain)]
        shown = [{**row, **{f: spread(row, f) for f in SPREAD}} for row in group]
        title = f"## {task.capitalize()}s, {'with' if retain else 'without'} a retain set"
        parts.append(f"{title}\n\n{common.figures(shown, ('method', 'preset', 'runs', 'n'), FIGURES)}")
    return "\n".join(parts)


def spread(row: common.Row, column: str) -> str | None:
    """Mean and standard deviation over the runs."""
    mean = row.get(column)
    return None if mean is None else f"{mean:.3f} +- {row[f'{column}_sd']:.3f}"


def figure(rows: list[common.Row], path: str) -> None:
    """One panel a figure, one bar a system, the tasks and retain sets beside each other."""
    panels = {
        "esr1": "erased (ESR-1)",
        "psr1": "others right (PSR-1)",
        "recovery1": "with p",
        "learnt1": "learnt again",
    }
    systems = list(dict.fromkeys((r["method"], r["preset"]) for r in rows))
    groups = list(dict.fromkeys((r["task"], r["retain_set"]) for r in rows))
    picture = Figure(figsize=(11, 1 + 0.45 * len(systems)), layout="constrained")
    for axes, (column, label) in zip(picture.subplots(1, len(panels), sharey=True), panels.items(), strict=True):
        for i, (task, retain) in enumerate(groups):
            of = {(r["method"], r["preset"]): r[column] for r in rows if (r["task"], r["retain_set"]) == (task, retain)}
            have = [(n + (i + 0.5) / len(groups) - 0.5, of[s]) for n, s in enumerate(systems) if of.get(s) is not None]
            if have:
                y, x = zip(*have, strict=True)
                axes.barh(
                    y, x, 0.8 / len(groups), color=f"C{i}", label=f"{task}, {'with' if retain else 'no'} retain set"
                )
        axes.set(title=label, xlim=(0, 1.02))
        axes.set_yticks(range(len(systems)), [f"{m} ({p})" for m, p in systems])
    picture.axes[0].invert_yaxis()
    picture.legend(
        *picture.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(groups), fontsize=8
    )
    picture.savefig(common.OUT / path, dpi=120)


def main() -> int:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=FAMILIES, default="pocket")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--styles", nargs="*", default=STYLES)
    parser.add_argument("--retain", choices=common.RETAIN, default="both")
    parser.add_argument("--only", nargs="*", help="methods, without the floor's row")
    parser.add_argument("--name", default="methods", help="name of the files, for runs side by side")
    parser.add_argument("--take", nargs="*", default=[], help="names whose runs are taken over first")
    parser.add_argument("--smoke", action="store_true", help="three systems, one object, one style, a few steps")
    args = parser.parse_args()
    common.start_logging()
    names, systems, quick, name = (*args.objects, *args.styles), SYSTEMS, {}, args.name
    if args.smoke:
        names, systems = ("church", "ink"), (SYSTEMS[0], SYSTEMS[5], SYSTEMS[9])
        args.images, args.seeds, quick, name = 4, [0], common.SMOKE, "methods_smoke"
    model = common.pocket(3 if args.smoke else None, args.model)
    runs = common.Rows(f"{name}_runs", KEY, fresh=args.smoke)
    runs.take(f"{other}_runs" for other in args.take)
    for system in systems:
        if args.only and system.method not in args.only:
            continue
        for retain in common.RETAIN[args.retain]:
            for seed in args.seeds:
                for concept in names:
                    task = task_of(model, concept, retain, seed, args.images)
                    key = {"method": system.method, "preset": system.preset, "retain_set": retain}
                    key |= {"task": task.kind, "concept": concept, "seed": seed}
                    if not runs.has(key):
                        facts = {"n": args.images, "machine": common.machine()}
                        known = same(runs.rows, {**key, "n": args.images}, bool(task.retained))
                        runs.add(known or {**key, **facts, **one(model, system, task, seed, quick)})
    rows = summarise(runs.rows)
    if not args.only:
        rows += floor(model, FLOOR[:1] if args.smoke else FLOOR, args.images, quick, f"{name}_floor")
    write(name, rows)
    figure(rows, f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
