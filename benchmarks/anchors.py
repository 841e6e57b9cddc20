"""Which text embedding finds a fitting anchor? How often the nearest kept object is of the erased one's own kind.

    python benchmarks/anchors.py

For every object of the pocket model and several retain sets: is the nearest retained object, by cosine centred on the
retain set's mean, of the same category, and is it one of its look-alikes? By the last word's hidden state, and by the
whole context that cross-attention reads. Rows in out/benchmarks/anchors.json. Seconds; no picture is drawn.
"""

from __future__ import annotations

import argparse
import random
import sys

import common
import torch
import torch.nn.functional as F

from eraser_core.anchors import embed

COLUMNS = ("embedding", "same_category", "look_alike", "n")


def main() -> int:
    """Count, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("--smoke", action="store_true", help="one retain set")
    args = parser.parse_args()
    name = "anchors_smoke" if args.smoke else "anchors"
    model = common.pocket()
    concepts = common.concepts_of(model)
    drawn, denoiser = list(concepts.drawn), model.denoiser
    phrases = [c.phrase for c in drawn]
    tokens = denoiser.encode(phrases).tokens.float()
    last = tokens[range(len(drawn)), [denoiser.token_count(p) - 1 for p in phrases]]
    rows = common.Rows(name, COLUMNS, fresh=True)
    for embedding, vectors in (("last word", last), ("whole context", embed(denoiser, phrases))):
        kind = alike = n = 0
        for seed in args.seeds[:1] if args.smoke else args.seeds:
            for i, concept in enumerate(drawn):
                others = [j for j in range(len(drawn)) if j != i]
                kept = random.Random(f"retain/{seed}").sample(others, len(others) // 2)
                centred = vectors - vectors[kept].mean(0)
                best = drawn[kept[int(torch.argmax(F.cosine_similarity(centred[i : i + 1], centred[kept])))]]
                kind, alike, n = (
                    kind + (best.category == concept.category),
                    alike + (best.name in concept.look_alikes),
                    n + 1,
                )
        rows.add({"embedding": embedding, "same_category": kind, "look_alike": alike, "n": n})
    common.show(name, common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
