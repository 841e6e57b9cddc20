"""The study behind the pocket defaults: one setting changed at a time, the same objects and seed in every variant.

    python benchmarks/pocket_study.py                    # all variants
    python benchmarks/pocket_study.py --only anchor k    # some groups of variants
    python benchmarks/pocket_study.py --smoke

A row a (variant, object) in out/benchmarks/pocket_study.json; an interrupted study goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import common

from eraser_core.evaluation.pocket import object_task, score, untouched
from eraser_core.models import Model, open_model

OBJECTS = ("church", "guitar", "truck")
COLUMNS = (
    "esr1",
    "esr1_synonym",
    "psr1",
    "psr1_before",
    "psr1_retained",
    "recovery1",
    "forged1",
    "kept_with_p1",
    "seconds",
)


@dataclass(frozen=True)
class Variant:
    """What differs from the defaults."""

    group: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    anchor: str | None = None
    method: str = "kpop"
    retain: bool = True


VARIANTS = (
    Variant("default", "default"),
    Variant("anchor", "category word", anchor="category"),
    Variant("anchor", "empty", anchor=""),
    Variant("anchor", "far (a banana)", anchor="a banana"),
    Variant("lambda", "0", {"lambda": 0.0}),
    Variant("lambda", "0.1", {"lambda": 0.1}),
    Variant("lambda", "1", {"lambda": 1.0}),
    Variant("lambda", "3", {"lambda": 3.0}),
    Variant("k", "1", {"k": 1}),
    Variant("k", "10", {"k": 10}),
    Variant("k", "100", {"k": 100}),
    Variant("k", "200", {"k": 200}),
    Variant("mechanism", "additive", {"mechanism": "additive"}),
    Variant("steps", "100", {"iterations": 100}),
    Variant("steps", "400", {"iterations": 400}),
    Variant("optimizer", "plain gradient", {"optimizer": "sgd", "eta": 0.3, "eta_p": 30.0}),
    Variant("tune", "xattn", {"tune": "xattn"}),
    Variant("tune", "noxattn", {"tune": "noxattn"}),
    Variant("tune", "rank 4", {"rank": 4, "eta": 1e-3}),
    Variant("tune", "text, rank 8", {"tune": "text", "rank": 8, "eta": 2e-3}),
    Variant(
        "tune",
        "text, rank 8, null space",
        {"tune": "text", "rank": 8, "eta": 2e-3, "null_space": True, "retain_weight": 0},
    ),
    Variant("latents", "edited, refreshed", {"latents_from": "edited", "refresh_every": 10}),
    Variant("latents", "small pool", {"pool_size": 64}),
    Variant("retain", "no retain set", retain=False),
    Variant("method", "naive (eq. 5)", method="naive"),
)


def run(model: Model, variant: Variant, name: str, images: int, quick: Mapping[str, Any]) -> common.Row:
    """One object under one variant."""
    if model.concepts is None:
        raise SystemExit("the study needs the pocket model")
    anchor = variant.anchor
    if anchor == "category":
        anchor = model.concepts.categories[model.concepts.get(name).category]
    kept = None if variant.retain else ()
    task = object_task(model.concepts, model.denoiser, name, anchor=anchor, retain=kept, n=images)
    result = common.run(model, task, variant.method, {**variant.values, **quick}, key_seed=0)
    hidden = result.prompts[0] if result.prompts else None
    figures = score(model.examiner, task, result.erasure.as_edit(), hidden, None, untouched(model.examiner, task))
    named = {
        "group": variant.group,
        "variant": variant.name,
        "concept": name,
        "anchor": task.anchor,
        "n": images,
        "seed": 0,
    }
    return {**named, **{c: figures.get(c) for c in COLUMNS}, "seconds": round(result.seconds, 1)}


def main() -> int:
    """Run what is missing, print the means a variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="groups of variants")
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--name", default="pocket_study")
    parser.add_argument("--smoke", action="store_true", help="two variants, one object, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    quick: dict[str, Any] = {}
    variants = [v for v in VARIANTS if not args.only or v.group in args.only]
    if args.smoke:
        variants, args.objects, args.images, quick = [VARIANTS[0], VARIANTS[-1]], OBJECTS[:1], 4, common.SMOKE
        args.name = "pocket_study_smoke"
    model = open_model("pocket", steps=3 if args.smoke else None)
    rows = common.Rows(args.name, ("group", "variant", "concept"), fresh=args.smoke)
    for variant in variants:
        for name in args.objects:
            if not rows.has({"group": variant.group, "variant": variant.name, "concept": name}):
                rows.add(run(model, variant, name, args.images, quick))
    columns = ("group", "variant", "runs", *COLUMNS)
    sys.stdout.write(common.table(common.means(rows.rows, ["group", "variant"], COLUMNS), columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
