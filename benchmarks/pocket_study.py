"""The study behind the pocket defaults: one setting changed at a time, the same objects and seeds in every variant.

    python benchmarks/pocket_study.py                    # all variants; lambda, k and the mechanism: ablations.py
    python benchmarks/pocket_study.py --only anchor      # some groups of variants
    python benchmarks/pocket_study.py --smoke

A row a (variant, object, seed) in out/benchmarks/pocket_study.json; an interrupted study goes on. About three minutes a
row on one core, 54 rows.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import common
from variants import DEFAULT, KEY, OBJECTS, Variant, run, sweep, table

from eraser_core.models import open_model

VARIANTS = (
    DEFAULT,
    Variant("steps", "50", {"iterations": 50}),
    Variant("steps", "200", {"iterations": 200}),
    Variant("retain", "weight 3", {"retain_weight": 3.0}),
    Variant("eta", "1e-4", {"eta": 1e-4}),
    Variant("anchor", "empty", anchor=""),
    Variant("anchor", "category word", anchor="category"),
    Variant("tune", "text, rank 8", {"tune": "text", "rank": 8, "eta": 2e-3}),
    Variant("tune", "rank 4", {"rank": 4, "eta": 1e-3}),
    Variant("latents", "edited, refreshed", {"latents_from": "edited", "refresh_every": 10}),
    Variant("optimizer", "plain gradient", {"optimizer": "sgd", "eta": 0.3, "eta_p": 30.0}),
    Variant(
        "tune",
        "text, rank 8, null space",
        {"tune": "text", "rank": 8, "eta": 2e-3, "null_space": True, "retain_weight": 0},
    ),
    Variant("method", "naive (eq. 5)", method="naive"),
    Variant("latents", "small pool", {"pool_size": 64}),
    Variant("tune", "xattn", {"tune": "xattn"}),
    Variant("tune", "noxattn", {"tune": "noxattn"}),
    Variant("anchor", "far (a banana)", anchor="a banana"),
)


def main() -> int:
    """Run what is missing, print the means a variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="groups of variants")
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--images", type=int, default=16)
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
    rows = common.Rows(args.name, KEY, fresh=args.smoke)
    sweep(rows, variants, args.objects, args.seeds, lambda v, name, s: run(model, v, name, args.images, s, quick))
    common.show(args.name, table(rows.rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
