"""Training an fp32 edit through a network in fp16: gradients are made larger inside, where fp16 would lose them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoiser import Edit


def fp16_gain(z_t: Tensor) -> float:
    """How much larger gradients are made inside an fp16 network: n, the numbers of one latent.

    A loss is a mean over them, so every gradient is n times smaller than one prediction's: 1e-5 and less, where fp16
    has few digits or none.
    """
    return float(z_t[0].numel())


def edited(edit: Edit, key: str, weight: Tensor, gain: float) -> Tensor:
    """W' in the network's precision, with its gradient unscaled before it reaches the edit."""
    if gain == 1:
        return edit.weight(key, weight)
    return scaled(edit.weight(key, weight.float()), 1 / gain).to(weight.dtype)


def scaled(x: Tensor, factor: float) -> Tensor:
    """x, with its gradient times the factor."""
    return x if factor == 1 else _Scaled.apply(x, factor)


class _Scaled(torch.autograd.Function):
    """The identity, with its gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None
