"""What a style is best drawn as instead: every other style as the anchor, and none.

    python benchmarks/pocket_styles.py            # two styles, all anchors
    python benchmarks/pocket_styles.py --smoke

A row a (variant, style, seed) in out/benchmarks/pocket_styles.json; an interrupted study goes on. About five minutes a
row on one core, 16 rows.
"""

from __future__ import annotations

import sys

from variants import Variant, swept

STYLES = ("ink", "pixel")
VARIANTS = (
    *(Variant("anchor", style, anchor=style) for style in ("twemoji", "blob", "fluent", "clay", "pixel", "ink")),
    Variant("anchor", "no style", anchor=""),
    Variant("steps", "500", {"iterations": 500}),
    Variant("retain", "none", retain=False),
)


def main() -> int:
    """Run what is missing, print the means a variant."""
    swept(__doc__, "pocket_styles", VARIANTS, objects=STYLES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
