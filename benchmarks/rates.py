"""The learning rates of ESD and CA on the pocket model, chosen on objects that the tables of the systems do not hold.

    python benchmarks/rates.py --objects guitar dog
    python benchmarks/rates.py --smoke

Their authors' rates are Stable Diffusion's, whose weights move a hundred times less, so a comparison on the pocket model
has to search them, as KPOP's was (pocket_study.py). A row a (variant, object, seed) in out/benchmarks/rates.json; an
interrupted search goes on. About two minutes a row on one core, 7 rows an object.
"""

from __future__ import annotations

import sys

from variants import Variant, swept

RATES = (2e-4, 6e-5, 2e-5)
VARIANTS = (
    *(Variant("ca", f"{eta:g}", {"eta": eta}, method="ca") for eta in RATES),
    *(Variant("esd", f"{eta:g}", {"eta": eta}, method="esd") for eta in RATES),
    Variant("esd", "0.0002, 100 steps", {"eta": 2e-4, "iterations": 100}, method="esd"),
)


def main() -> int:
    """Run what is missing, print the means a variant."""
    swept(__doc__, "rates", VARIANTS, objects=("guitar", "dog"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
