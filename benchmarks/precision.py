"""Does an erasure survive half precision and small ranks? On the pocket model, weights rounded, computed in fp32.

    python benchmarks/precision.py    # five objects, 400 pictures a sheet: 2000 a figure; some three core-hours
    python benchmarks/precision.py --smoke

A patched weight ends in the model's precision: what a user runs is round(W + D), not W + D. Rows of three groups:

  as trained   the pocket model's own weights and changes, rounded to fp32, fp16, bf16
  real sizes   first scaled so that W has the spread of SD1.5's K and V (0.04) and D one of 1e-3, 1e-4, 1e-5; what
               rounding leaves of D, round(W + D) - round(W), is scaled back and put on the pocket model
  rank         D cut to its best approximation of rank 4 to 64, as the file would hold it (fp16)

What is left of D is computed for every row: `cosine` is that between it and D; `along` the share of D that is left
along D itself (1: rounding is noise that D rides on; less: D is swallowed). Pictures are drawn in few sampling steps
(`--steps`) and only where rounding is hardest: 16 bits as trained, the smallest of the real sizes, one rank. They are
paired with those of "as trained, fp32" on the same noise; the differences over all objects, with 95 % intervals, are
the last tables. Rows in out/benchmarks/precision.json, an interrupted run goes on.
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
from eraser_core.evaluation.metrics.paired import rate_difference
from eraser_core.evaluation.pocket.tasks import Task, object_task
from eraser_core.files import write_json
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.models import Model

OBJECTS = ("church", "guitar", "truck", "dog", "camera")
SD15_SPREAD = 0.04  # of the K and V weights of Stable Diffusion 1.5
DELTAS = (1e-3, 1e-4, 1e-5)
RANKS = (4, 8, 16, 32, 64)
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SHEETS = ("erased", "kept")
FIGURES = {"esr1": "erased", "psr1": "kept", "recovery1": "recovery"}
NAMED = ("group", "delta", "precision", "rank")
KEY = ("concept", *NAMED, "n")
DRAWN = {("fp16", None), ("bf16", None), ("fp16", 1e-5), ("bf16", 1e-5)}
DRAWN_RANK = 16
LIKENESS = ("kb", "cosine", "along", "error")


@dataclass(frozen=True)
class Left:
    """What is left of an erasure: the changes of the weights, how to name the row, and whether it is looked at."""

    deltas: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    drawn: bool


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
    """All rows of one erasure; the first is what the others are compared with."""
    deltas = {key: entry.delta() for key, entry in erasure.entries.items()}
    own = {key: weights[key] for key in deltas}
    named = dict.fromkeys((*NAMED, "kb"))
    found = []
    for name, dtype in PRECISIONS.items():
        facts = named | {"group": "as trained", "precision": name}
        found.append(Left(rounded(own, deltas, dtype), facts, name == "fp32" or (name, None) in DRAWN))
    for size in DELTAS[-1:] if quick else DELTAS:
        w, d = SD15_SPREAD / spread(own), size / spread(deltas)
        for name, dtype in PRECISIONS.items():
            facts = named | {"group": "real sizes", "delta": size, "precision": name}
            found.append(Left(rounded(own, deltas, dtype, w, d), facts, (name, size) in DRAWN))
    for rank in RANKS[:1] if quick else RANKS:
        cut = erasure.compress(rank).to(torch.float16)
        kb = sum(t.numel() * t.element_size() for t in cut.tensors().values()) / 1000
        facts = named | {"group": "rank", "rank": rank, "kb": kb, "precision": "fp16 file"}
        found.append(Left({key: entry.delta() for key, entry in cut.entries.items()}, facts, rank == DRAWN_RANK))
    return found


def looked_at(model: Model, task: Task, edit: FrozenEdit, hidden: HiddenPrompt) -> common.Row:
    """The figures, and of each what every picture counted: a 1 or a 0 in the order of the questions."""
    ranks = {name: model.examiner.ranks(task.sheets[name], edit) for name in SHEETS}
    ranks["recovery"] = model.examiner.ranks(task.sheets["erased"], edit, hidden)
    found: common.Row = {}
    for figure, sheet in FIGURES.items():
        hits = ranks[sheet] >= 1 if figure == "esr1" else ranks[sheet] < 1
        found |= {figure: float(hits.double().mean()), f"{figure}_hits": common.digits(hits)}
    return found


def run(
    model: Model, rows: common.Rows, objects: Sequence[str], images: int, values: Mapping[str, Any], quick: bool
) -> None:
    """Erase each object once, then all of its rows."""
    concepts = common.concepts_of(model)
    for name in objects:
        task = object_task(concepts, model.denoiser, name, n=images)
        result = common.run(model, task, "kpop", {**values, "rank": 0}, key_seed=0)
        dense = {key: entry.delta() for key, entry in result.erasure.entries.items()}
        for left in conditions(dict(model.denoiser.all_weights()), result.erasure, quick):
            row = {"concept": name, **left.facts, "n": images}
            if rows.has(row):
                continue
            row |= likeness(left.deltas, dense) | {"spread": spread(dense), "steps": model.examiner.steps, "seed": 0}
            row |= {
                "anchor": task.anchor,
                "weights": model.denoiser.base_hash[:16],
                "machine": common.machine(),
                "drawn": left.drawn or quick,
            }
            if row["drawn"]:
                row |= looked_at(model, task, FrozenEdit(left.deltas), result.prompts[0])
            rows.add(row)


def paired(rows: Sequence[common.Row]) -> list[common.Row]:
    """Every condition that was looked at, over all objects, minus "as trained, fp32" on the same pictures."""
    groups: dict[tuple[Any, ...], list[common.Row]] = {}
    for row in rows:
        if row["drawn"]:
            groups.setdefault(tuple(row[k] for k in NAMED), []).append(row)
    exact = {row["concept"]: row for row in groups.get(("as trained", None, "fp32", None), [])}
    found = []
    for key, group in groups.items():
        both = [(row, exact[row["concept"]]) for row in group if row["concept"] in exact]
        row = dict(zip(NAMED, key, strict=True)) | {c: common.mean(group, c) for c in LIKENESS}
        for figure in FIGURES:
            one, two = (torch.tensor([h == "1" for pair in both for h in pair[i][f"{figure}_hits"]]) for i in (0, 1))
            d = rate_difference(one, two)
            row |= {figure: float(one.double().mean()), f"{figure}_difference": d.value}
            row |= {f"{figure}_low": d.low, f"{figure}_high": d.high, "n": d.n}
        found.append(row)
    return found


def tables(rows: Sequence[common.Row], differences: Sequence[common.Row]) -> str:
    """What is left of D, by condition over the objects; each object's figures; and the differences."""
    parts = [(common.means(rows, NAMED, LIKENESS), (*NAMED, "runs", *LIKENESS))]
    drawn = [r for r in rows if r["drawn"]]
    parts += [(drawn, ("concept", *NAMED, *columns)) for columns in (LIKENESS, (*FIGURES, "n"))]
    for figure in FIGURES:
        columns = (*NAMED, figure, f"{figure}_difference", f"{figure}_low", f"{figure}_high", "n")
        parts.append(([*differences], columns))
    shown = [
        ([{**row, "delta": f"{row['delta']:g}" if row["delta"] else None} for row in part], columns)
        for part, columns in parts
    ]
    return "\n".join(common.table(part, columns) for part, columns in shown)


def main() -> int:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--images", type=int, default=400, help="pictures a sheet and object")
    parser.add_argument("--steps", type=int, default=6, help="sampling steps of every picture")
    parser.add_argument("--name", default="precision", help="of the table")
    parser.add_argument(
        "--tables", action="store_true", help="print the tables of the rows that are there, run nothing"
    )
    parser.add_argument("--smoke", action="store_true", help="one object, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    values: dict[str, Any] = {}
    if args.smoke:
        args.objects, args.images, args.steps, args.name = OBJECTS[:1], 2, 3, "precision_smoke"
        values = dict(common.SMOKE)
    rows = common.Rows(args.name, KEY, fresh=args.smoke)
    if not args.tables:
        run(common.pocket(args.steps), rows, args.objects, args.images, values, args.smoke)
    differences = paired(rows.rows)
    write_json(common.OUT / f"{args.name}_paired.json", differences)
    common.show(args.name, tables(rows.rows, differences))
    return 0


if __name__ == "__main__":
    sys.exit(main())
