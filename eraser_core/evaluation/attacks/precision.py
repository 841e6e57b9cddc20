"""Does rounding the file bring it back? fp16, bf16, fp8 (e4m3) and 4 bit, in memory.

Rounding a model can bring unlearnt knowledge back (language models: arXiv 2410.16454). Here the numbers of the file are
rounded, which is what a host does that loads it in a smaller type. 4 bit is round to nearest of 15 values, a scale a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...erasure import Dense, Entry, Erasure, LowRank
from .algebra import percent
from .case import Attack, Case, Finding


def four_bit(tensor: Tensor) -> Tensor:
    """The nearest of 15 values, -7 to 7 times the row's own scale."""
    rows = tensor.float().flatten(1) if tensor.dim() > 1 else tensor.float()[None]
    scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 7
    return ((rows / scale).round() * scale).view(tensor.shape)


def _fp8(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.float8_e4m3fn).float().to(tensor.device)


ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "fp16": lambda tensor: tensor.half().float(),
    "bf16": lambda tensor: tensor.bfloat16().float(),
    "fp8": _fp8,
    "4 bit": four_bit,
}


def rounded(erasure: Erasure, by: Callable[[Tensor], Tensor]) -> Erasure:
    """The erasure with every tensor of its file rounded."""

    def one(entry: Entry) -> Entry:
        if isinstance(entry, LowRank):
            return LowRank(by(entry.up), by(entry.down), entry.alpha)
        return Dense(by(entry.diff), entry.bias)

    return replace(erasure, entries={key: one(entry) for key, entry in erasure.entries.items()})


def run(case: Case) -> list[Finding]:
    """One finding a precision, and how far the change of the weights moved."""
    context, found, exact = case.contexts(), [], case.erasure.as_edit().deltas
    for name, by in ROUNDED.items():
        file = rounded(case.erasure, by)
        moved = file.as_edit().deltas
        off = sum(float((moved[k] - d).square().sum()) for k, d in exact.items())
        share = (off / max(sum(float(d.square().sum()) for d in exact.values()), 1e-30)) ** 0.5
        said = f"the change of the weights is off by {percent(share)}"
        images = case.draw(context, case.frozen(file))
        found.append(case.found(name, f"with the file rounded to {name}", images, case.plain(False), said=said))
    return found


ATTACK = Attack(
    "precision",
    "Does rounding the file bring it back: fp16, bf16, fp8, 4 bit?",
    "arXiv 2410.16454",
    "n pictures a precision: n x steps x 2 forward rows each",
    run,
    lambda case: case.drawing(len(ROUNDED)),
    quick=True,
)
