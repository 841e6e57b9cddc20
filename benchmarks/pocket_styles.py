"""KPOP over the pocket model's six styles, and what a style is best drawn as instead: every other style, or none.

    python benchmarks/pocket_styles.py                                  # all
    python benchmarks/pocket_styles.py --only default                   # the program's own choice of anchor
    python benchmarks/pocket_styles.py --only anchor --objects ink      # every anchor for one style
    python benchmarks/pocket_styles.py --only demo                      # with the demo's smaller pool and half the steps
    python benchmarks/pocket_styles.py --smoke

A row a (variant, style, seed) in out/benchmarks/pocket_styles.json; an interrupted study goes on. About five minutes a
row on one core, 60 rows.
"""

from __future__ import annotations

import sys

from variants import DEFAULT, Variant, swept

STYLES = ("ink", "clay", "twemoji", "blob", "fluent", "pixel")
VARIANTS = (
    DEFAULT,
    *(Variant("anchor", style, anchor=style) for style in STYLES),
    Variant("none", "no style", anchor=""),
    # what scripts/demo.py erases its style with
    Variant("demo", "the demo's", {"iterations": 150, "pool_size": 128, "sampler_steps": 8}),
    Variant("steps", "500", {"iterations": 500}),
    Variant("retain", "none", retain=False),
)


def main() -> int:
    """Run what is missing, print the means a variant and every row."""
    swept(__doc__, "pocket_styles", VARIANTS, objects=STYLES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
