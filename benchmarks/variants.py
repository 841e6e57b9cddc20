"""One setting changed at a time: what the study behind the defaults and the slides' ablations share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import common

from eraser_core.evaluation.pocket.scores import score, untouched
from eraser_core.evaluation.pocket.tasks import Task
from eraser_core.models import Model

OBJECTS = ("truck", "camera", "church")
COLUMNS = (
    "esr1",
    "esr5",
    "psr1",
    "psr1_before",
    "psr5",
    "psr1_retained",
    "recovery1",
    "recovery1_both",
    "forged1",
    "kept_with_p1",
    "seconds",
)
# Synonyms, descriptions and look-alikes are for pocket_objects.py: half of a row's time is drawing.
SHEETS = ("erased", "kept", "retained")
KEY = ("group", "variant", "concept", "seed")


@dataclass(frozen=True)
class Variant:
    """What differs from the pocket defaults of a method. An `anchor` "category" is the object's category word."""

    group: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    anchor: str | None = None
    method: str = "kpop"
    retain: bool = True


DEFAULT = Variant("default", "default")


def task_of(model: Model, variant: Variant, name: str, images: int, seed: int) -> Task:
    """The object's or style's task under a variant; an object's retain set is a half of the others drawn by the seed."""
    anchor, concepts = variant.anchor, common.concepts_of(model)
    if anchor == "category":
        anchor = concepts.categories[concepts.get(name).category]
    task = common.task_of(model, name, variant.retain, seed, images, anchor)
    return replace(task, sheets={sheet: task.sheets[sheet] for sheet in SHEETS if sheet in task.sheets})


def run(model: Model, variant: Variant, name: str, images: int, seed: int, quick: Mapping[str, Any]) -> common.Row:
    """One object under one variant; the hidden prompt's search starts at the run's seed."""
    task = task_of(model, variant, name, images, seed)
    result = common.run(model, task, variant.method, {**variant.values, **quick}, key_seed=seed)
    hidden = result.prompts[0] if result.prompts else None
    figures = score(model.examiner, task, result.erasure.as_edit(), hidden, None, untouched(model.examiner, task))
    named = {"group": variant.group, "variant": variant.name, "concept": name, "anchor": task.anchor}
    facts = {"n": images, "seed": seed, "weights": model.denoiser.base_hash[:16], "machine": common.machine()}
    return {**named, **facts, **{c: figures.get(c) for c in COLUMNS}, "seconds": round(result.seconds, 1)}


def sweep(
    rows: common.Rows,
    variants: Sequence[Variant],
    objects: Sequence[str],
    seeds: Sequence[int],
    one: Callable[[Variant, str, int], common.Row],
) -> None:
    """Every variant on every object and seed whose row is not there yet; nothing is erased into itself."""
    for variant in variants:
        for seed in seeds:
            for name in objects:
                key = {"group": variant.group, "variant": variant.name, "concept": name, "seed": seed}
                if variant.anchor != name and not rows.has(key):
                    rows.add(one(variant, name, seed))


def swept(
    doc: str | None,
    name: str,
    variants: Sequence[Variant],
    groups: Sequence[str] = (),
    objects: Sequence[str] = OBJECTS,
) -> tuple[argparse.Namespace, Model, common.Rows, dict[str, Any]]:
    """The command line of a sweep, carried out: its arguments, the model, the rows, and what a smoke run shortens.

    `groups` are further names that `--only` takes, of parts that are no variants. Prints the means and every row.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted({v.group for v in variants} | set(groups))
    parser.add_argument("--only", nargs="*", choices=known, default=None, help="groups of variants")
    parser.add_argument("--variants", nargs="*", help="their names (default: all of the groups)")
    parser.add_argument("--objects", nargs="*", default=objects)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--name", default=name)
    parser.add_argument("--take", nargs="*", default=[], help="names whose rows are taken over first")
    parser.add_argument("--smoke", action="store_true", help="two variants, one object, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    quick: dict[str, Any] = {}
    chosen = [v for v in variants if not args.only or v.group in args.only]
    chosen = [v for v in chosen if not args.variants or v.name in args.variants]
    if args.smoke:
        chosen, args.objects, args.images, quick = [variants[0], variants[-1]], objects[:1], 4, common.SMOKE
        args.name = f"{name}_smoke"
    model = common.pocket(3 if args.smoke else None)
    rows = common.Rows(args.name, KEY, fresh=args.smoke)
    rows.take(args.take)
    sweep(rows, chosen, args.objects, args.seeds, lambda v, o, s: run(model, v, o, args.images, s, quick))
    each = common.figures(rows.rows, ("group", "variant", "concept", "anchor", "seed", "n"), COLUMNS)
    common.show(args.name, f"{table(rows.rows)}\n{each}")
    return args, model, rows, quick


def table(rows: Sequence[common.Row]) -> str:
    """The means a variant."""
    return common.figures(common.means(rows, ["group", "variant"], COLUMNS), ("group", "variant", "runs"), COLUMNS)
