"""How many steps a picture of the pocket model needs, by solver: the judge's verdicts and the distance from small steps.

    python benchmarks/solver.py --images 276
    python benchmarks/solver.py --smoke

Every object in every style's turn, with the scoring templates and the same noise for each row of the table. `distance`
is the mean difference of pictures in [0, 1] from DDIM in 100 steps, over the first 48 of them. The demo scores with
DPM-Solver++ in 8 steps because of this table. Rows in out/benchmarks/solver.json.
"""

from __future__ import annotations

import argparse
import sys

import common
import torch

from eraser_core.evaluation.metrics.objects import psr
from eraser_core.evaluation.pocket.tasks import questions
from eraser_core.models import open_model
from eraser_core.sampling import Solver

TRIED: tuple[tuple[Solver, int], ...] = (
    ("ddim", 16),
    ("ddim", 10),
    ("ddim", 8),
    ("dpmpp", 10),
    ("dpmpp", 8),
    ("dpmpp", 6),
)
FINE, COMPARED = 100, 48


def main() -> int:
    """One row a solver and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=276, help="pictures a row")
    parser.add_argument("--smoke", action="store_true", help="a few pictures")
    args = parser.parse_args()
    n = 4 if args.smoke else args.images
    rows = common.Rows("solver_smoke" if args.smoke else "solver", ("solver", "steps", "n"), fresh=True)
    fine = common.pocket(8 if args.smoke else FINE)
    concepts = common.concepts_of(fine)
    asked = questions(concepts, [(c, c.phrase) for c in concepts.drawn], n, 30_000)
    few = asked[:COMPARED]
    limit = fine.examiner.images([q.prompt for q in few], [q.index for q in few])
    for solver, steps in TRIED:
        examiner = open_model("pocket", common.device(), steps=steps, solver=solver).examiner
        right = psr(examiner.ranks(asked))
        drawn = examiner.images([q.prompt for q in few], [q.index for q in few])
        low, high = right.interval()
        rows.add(
            {"solver": solver, "steps": steps, "n": n, "right": right.value, "low": low, "high": high}
            | {"distance": float(torch.abs(drawn - limit).mean()), "machine": common.machine()}
        )
    common.show(rows.path.stem, common.table(rows.rows, ("solver", "steps", "n", "right", "low", "high", "distance")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
