"""Write the reference drawings that ship beside the pocket model: what attacks learn from, and the attacks' control.

    python scripts/pocket/reference.py --work out/pocket

One picture, `eraser_core/pocket/drawings.png`: a row an object, a column a style, 64 px each. The objects are the
never-shown ones and those that the benchmarks erase; `drawings.json` names the rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import common
import numpy as np
from PIL import Image

from eraser_core.pocket.concepts import load_concepts

OBJECTS = ("church", "guitar", "truck", "dog", "airplane", "camera", "hammer", "mushroom", "crown", "soccer ball")


def main() -> None:
    """Pick the drawings and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pocket"))
    args = parser.parse_args()
    data, concepts = common.read_drawings(args.work), load_concepts()
    chosen = [*(concepts.get(name) for name in OBJECTS), *concepts.never_shown]
    rows = [np.concatenate(list(data.images[data.codes.index(c.code), :, 0]), axis=1) for c in chosen]
    folder = common.CONCEPTS.parent
    Image.fromarray(np.concatenate(rows)).quantize(256).save(folder / "drawings.png", optimize=True)
    text = json.dumps({"objects": [c.name for c in chosen], "styles": list(data.styles)}, indent=1)
    (folder / "drawings.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
