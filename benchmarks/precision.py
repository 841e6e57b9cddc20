"""Does an erasure survive half precision and small ranks? On the pocket model, weights rounded, computed in fp32.

    python benchmarks/precision.py --images 2000    # one object after the other; rows as they come
    python benchmarks/precision.py --smoke

A patched weight ends in the model's precision: what a user runs is round(W + D), not W + D. Three groups of rows, each
paired with the dense erasure in fp32 on the same pictures' seeds (differences with 95 % intervals):

  as trained   the pocket model's own weights and changes, rounded to fp32, fp16, bf16
  real sizes   first scaled so that W has the spread of SD1.5's K and V (0.04) and D one of 1e-3, 1e-4, 1e-5; what
               rounding leaves of D, round(W + D) - round(W), is scaled back and put on the pocket model
  rank         D cut to its best approximation of rank 4 to 64, as the file would hold it (fp16)

`cosine` is that between what is left of D and D; `along` the share of D that is left along D itself (1: rounding is
noise that D rides on; less: D is swallowed).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import common
import torch
from torch import Tensor

from eraser_core.erasure import Erasure, FrozenEdit
from eraser_core.evaluation.objects import esr, psr
from eraser_core.evaluation.paired import rate_difference
from eraser_core.evaluation.pocket import Task, object_task
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.models import Model, open_model

OBJECTS = ("church", "guitar", "truck", "dog", "camera")
SD15_SPREAD = 0.04  # of the K and V weights of Stable Diffusion 1.5
DELTAS = (1e-3, 1e-4, 1e-5)
RANKS = (4, 8, 16, 32, 64)
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHEETS = ("erased", "kept", "retained")
COLUMNS = (
    "concept",
    "group",
    "delta",
    "precision",
    "rank",
    "kb",
    "cosine",
    "along",
    "error",
    "esr1",
    "psr1",
    "recovery1",
)
COLUMNS += ("esr_difference", "esr_low", "esr_high", "psr_difference", "psr_low", "psr_high", "n")


@dataclass(frozen=True)
class Left:
    """What is left of an erasure: the changes of the weights, and how to name the row."""

    deltas: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def rounded(
    weights: Mapping[str, Tensor], deltas: Mapping[str, Tensor], dtype: torch.dtype, w: float = 1.0, d: float = 1.0
) -> dict[str, Tensor]:
    """round(w W + d D) - round(w W), scaled back by d: in fp32, by weight."""
    found = {}
    for key, delta in deltas.items():
        base = (weights[key] * w).to(dtype).float()
        patched = (weights[key] * w + delta * d).to(dtype).float()
        found[key] = (patched - base) / d
    return found


def spread(tensors: Mapping[str, Tensor]) -> float:
    """The standard deviation of all numbers together."""
    return float(torch.cat([t.flatten() for t in tensors.values()]).std())


def likeness(left: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, float]:
    """Cosine, share along D, and relative error, over all weights together."""
    one, two = (torch.cat([ts[k].flatten().double() for k in wanted]) for ts in (left, wanted))
    dot, size = float(one @ two), float(two @ two)
    return {
        "cosine": dot / max(float(one.norm()) * size**0.5, 1e-300),
        "along": dot / size,
        "error": float((one - two).norm()) / size**0.5,
    }


def conditions(weights: Mapping[str, Tensor], erasure: Erasure, quick: bool) -> list[Left]:
    """All rows of one erasure."""
    deltas = {key: entry.delta() for key, entry in erasure.entries.items()}
    own = {key: weights[key] for key in deltas}
    found = [
        Left(rounded(own, deltas, dtype), {"group": "as trained", "delta": spread(deltas), "precision": name})
        for name, dtype in PRECISIONS.items()
    ]
    for size in DELTAS[-1:] if quick else DELTAS:
        w, d = SD15_SPREAD / spread(own), size / spread(deltas)
        for name, dtype in PRECISIONS.items():
            left = rounded(own, deltas, dtype, w, d)
            found.append(Left(left, {"group": "real sizes", "delta": size, "precision": name}))
    for rank in RANKS[:1] if quick else RANKS:
        cut = erasure.compress(rank).to(torch.float16)
        kb = sum(t.numel() * t.element_size() for t in cut.tensors().values()) / 1000
        facts = {"group": "rank", "rank": rank, "kb": kb, "precision": "fp16 file"}
        found.append(Left({key: entry.delta() for key, entry in cut.entries.items()}, facts))
    return found


def hits(model: Model, task: Task, edit: FrozenEdit, hidden: HiddenPrompt | None) -> dict[str, Tensor]:
    """Of every sheet, the ranks of the right answers; `recovery` with the hidden prompt."""
    found = {name: model.examiner.ranks(task.sheets[name], edit) for name in SHEETS if task.sheets.get(name)}
    if hidden is not None:
        found["recovery"] = model.examiner.ranks(task.sheets["erased"], edit, hidden)
    return found


def row_of(found: Mapping[str, Tensor], against: Mapping[str, Tensor]) -> common.Row:
    """Figures and their differences from the dense fp32 erasure, paired picture by picture."""
    erased = rate_difference(found["erased"] >= 1, against["erased"] >= 1)
    kept = rate_difference(found["kept"] < 1, against["kept"] < 1)
    return {
        "esr1": esr(found["erased"]).value,
        "psr1": psr(found["kept"]).value,
        "psr1_retained": psr(found["retained"]).value if "retained" in found else None,
        "recovery1": psr(found["recovery"]).value if "recovery" in found else None,
        "esr_difference": erased.value,
        "esr_low": erased.low,
        "esr_high": erased.high,
        "psr_difference": kept.value,
        "psr_low": kept.low,
        "psr_high": kept.high,
    }


def run(
    model: Model, rows: common.Rows, objects: Sequence[str], images: int, values: Mapping[str, Any], quick: bool
) -> None:
    """Erase each object once, then all of its rows."""
    concepts = common.concepts_of(model)
    for name in objects:
        task = object_task(concepts, model.denoiser, name, n=images)
        result = common.run(model, task, "kpop", {**values, "rank": 0}, key_seed=0)
        hidden = result.prompts[0]
        weights = dict(model.denoiser.all_weights())
        dense = {key: entry.delta() for key, entry in result.erasure.entries.items()}
        against = hits(model, task, FrozenEdit(dense), hidden)
        for left in conditions(weights, result.erasure, quick):
            row = {"concept": name, **dict.fromkeys(("delta", "rank", "kb")), **left.facts, "n": images, "seed": 0}
            if rows.has(row):
                continue
            figures = row_of(hits(model, task, FrozenEdit(left.deltas), hidden), against)
            rows.add({**row, **likeness(left.deltas, dense), **figures})


def main() -> int:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--images", type=int, default=2000, help="pictures a sheet")
    parser.add_argument("--name", default="precision", help="of the table")
    parser.add_argument("--smoke", action="store_true", help="one object, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    key = ("concept", "group", "delta", "precision", "rank", "n")
    values: dict[str, Any] = {}
    if args.smoke:
        args.objects, args.images, args.name, values = OBJECTS[:1], 2, "precision_smoke", dict(common.SMOKE)
    rows = common.Rows(args.name, key, fresh=args.smoke)
    run(open_model("pocket", steps=3 if args.smoke else None), rows, args.objects, args.images, values, args.smoke)
    sys.stdout.write(common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
