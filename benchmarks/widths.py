"""How many concepts a closed form has room for, by the width of the text states: a simulation, no model is drawn with.

    python benchmarks/widths.py
    python benchmarks/widths.py --smoke

The widths are the pocket model's (192), SD 1.5's (768) and SDXL's (2048). A word is a Gaussian vector whose i-th direction has
variance i^-a. `spread` names a: "as the pocket's" is fitted to the general vocabulary's moment there, "even" is 0, the best case.
A concept has a word, an anchor's word, and templates that add the same noise to both. 3,000 words are kept by their
moment, 500 other words are named to nobody. `reached` is how much of the way to its anchor a concept goes, the mean and the worst
tenth's; `moved` is how far the unnamed words go, as a share of their length. Settings of the program. A row a (width, spread,
concepts) in out/benchmarks/widths.json.
"""

from __future__ import annotations

import argparse
import sys

import common
import torch
from torch import Tensor

from eraser_core.denoiser import Denoiser
from eraser_core.text_moments import KEPT, RIDGE, ConceptMoments, solved_map, whole_vocabulary

WIDTHS = (192, 768, 2048)
LISTS = (1, 10, 20, 50, 100, 500, 1000)
KEPT_WORDS, UNNAMED, TEMPLATES, NOISE = 3000, 500, 28, 0.3
COLUMNS = ("width", "spread", "concepts", "reached", "reached_worst", "moved", "moved_worst", "n", "seed")


def falling(denoiser: Denoiser) -> float:
    """a of i^-a, fitted by least squares to the logarithms of the vocabulary moment's middle eigenvalues."""
    values = torch.linalg.eigvalsh(whole_vocabulary(denoiser)).flip(0)
    i = torch.arange(2, len(values) // 2, dtype=torch.float64)  # the first is what all texts share
    x, y = i.log(), values[2 : len(values) // 2].log()
    return float(-((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def words(n: int, scales: Tensor, generator: torch.Generator) -> Tensor:
    """n words [n, d] float64, of length about 1."""
    return torch.randn(n, len(scales), generator=generator, dtype=torch.float64) * scales


def simulated(width: int, a: float, concepts: int, seed: int) -> common.Row:
    """The shares of one list."""
    generator = torch.Generator().manual_seed(seed)
    variance = torch.arange(1, width + 1, dtype=torch.float64) ** -a
    scales = (variance / variance.sum()).sqrt()
    kept, unnamed = (words(n, scales, generator) for n in (KEPT_WORDS, UNNAMED))
    erased, anchors = (words(concepts, scales, generator) for _ in range(2))
    c = torch.zeros(width, width, dtype=torch.float64)
    towards = torch.zeros_like(c)
    for s, g in zip(erased, anchors, strict=True):
        seen = s + NOISE * words(TEMPLATES, scales, generator)
        c += seen.T @ seen / TEMPLATES
        towards += torch.outer(g - s, seen.mean(0))
    change = solved_map(ConceptMoments(c, towards), kept.T @ kept / len(kept), KEPT, RIDGE, 0.0).e
    left = (anchors - erased - erased @ change.T).norm(dim=1) / (anchors - erased).norm(dim=1)
    moved = (unnamed @ change.T).norm(dim=1) / unnamed.norm(dim=1)
    worst = max(concepts // 10, 1)
    return {
        "reached": float((1 - left).mean()),
        "reached_worst": float((1 - left).sort().values[:worst].mean()),
        "moved": float(moved.mean()),
        "moved_worst": float(moved.sort().values[-UNNAMED // 10 :].mean()),
        "n": UNNAMED,
        "seed": seed,
    }


def main() -> int:
    """Every row, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="one width, two lists")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("widths_smoke" if args.smoke else "widths", COLUMNS[:3], fresh=True)
    spreads = {"as the pocket's": falling(common.pocket().denoiser), "even": 0.0}
    common.log.info("variance falls as i^-%.2f in the pocket model's text states", spreads["as the pocket's"])
    for width in WIDTHS[:1] if args.smoke else WIDTHS:
        for spread, a in spreads.items():
            for concepts in LISTS[:2] if args.smoke else LISTS:
                named = {"width": width, "spread": spread, "concepts": concepts}
                rows.add(named | simulated(width, a, concepts, args.seed))
    common.show(rows.path.stem, common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
