"""Does the warning of stacked files warn rightly? How far each other word is moved, and how many of its pictures stay right.

    python benchmarks/harm.py            # trains ten files, then draws under one to ten of them and under all combined
    python benchmarks/harm.py --smoke

The ten objects of pocket_objects.py, one fixed half of the others retained, settings of the demo. Movement as
eraser_core/many/harm.py defines it. A row a (files, bin of movement) in out/benchmarks/harm.json.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise

import common
import torch
from many import SINGLE_KPOP, asked, lists, singles
from pocket_objects import OBJECTS

from eraser_core.erasure import stack
from eraser_core.many.combine import CombineSettings, combine, source
from eraser_core.many.harm import harm
from eraser_core.models import open_model

BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 10.0)
COLUMNS = ("files", "moved from", "to", "words", "right")


def main() -> int:
    """One row a bin that holds words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4, help="pictures a word")
    parser.add_argument("--smoke", action="store_true", help="two files, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("harm_smoke" if args.smoke else "harm", COLUMNS, fresh=True)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else 8, solver="dpmpp")
    of = lists(model, OBJECTS[:2] if args.smoke else OBJECTS, 0)
    made = singles(model, of, dict(common.SMOKE) if args.smoke else SINGLE_KPOP, 0)
    files = [one.erasure for one in made]
    sources = [source(r.targets[0].concept, e) for r, e in zip(of.requests, files, strict=True)]
    joint = combine(model.denoiser, sources, CombineSettings()).erasure
    others = [*of.retained, *of.unnamed]
    n = 1 if args.smoke else args.images
    for name, some in [*((f"{k} stacked", files[:k]) for k in (1, 2, 5, len(files))), ("combined", [joint])]:
        moved = dict(harm(model.denoiser, some, [c.phrase for c in others]).movements)
        edit = stack(some, [1.0] * len(some))
        right = torch.tensor(
            [float((model.examiner.ranks(asked(model, [c], n, 50_000), edit) < 1).float().mean()) for c in others]
        )
        how_far = torch.tensor([moved[c.phrase] for c in others])
        for low, high in pairwise(BINS):
            here = (how_far >= low) & (how_far < high)
            if here.any():
                values = (name, low, high, int(here.sum()), float(right[here].mean()))
                rows.add(dict(zip(COLUMNS, values, strict=True)) | {"n": n, "machine": common.machine()})
    common.show(rows.path.stem, common.table(rows.rows, (*COLUMNS, "n")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
