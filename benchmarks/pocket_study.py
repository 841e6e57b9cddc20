"""The study behind the pocket defaults: one setting changed at a time, the same objects and seeds in every variant.

    python benchmarks/pocket_study.py                    # all variants; lambda, k and the mechanism: ablations.py
    python benchmarks/pocket_study.py --only anchor      # some groups of variants
    python benchmarks/pocket_study.py --smoke

A row a (variant, object, seed) in out/benchmarks/pocket_study.json; an interrupted study goes on. About three minutes a
row on one core, 54 rows.
"""

from __future__ import annotations

import sys

from variants import DEFAULT, Variant, swept

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
    Variant("optimizer", "plain gradient, eta 3", {"optimizer": "sgd", "eta": 3.0, "eta_p": 30.0}),
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
    swept(__doc__, "pocket_study", VARIANTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
