"""A few training steps on top of the erased model: what relearning and benign fine-tuning share.

    min over D of E || eps - eps_theta'+D(z_t, c) ||^2,   z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps

D is of low rank (arXiv 2106.09685) on attn2's K and V, as most people train a model further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...denoiser import Context, Denoiser, Edit
from ...edits import LowRankEdit
from .denoising_loss import loss, noised

RANK, STEPS, BATCH, RATE = 8, 120, 8, 1e-3


@dataclass(frozen=True)
class On:
    """An edit on top of another one, or of none: W'' = top(base(W))."""

    base: Edit | None
    top: Edit

    @property
    def keys(self) -> Sequence[str]:
        return list(dict.fromkeys([*(self.base.keys if self.base else ()), *self.top.keys]))

    def weight(self, key: str, weight: Tensor) -> Tensor:
        below = self.base.weight(key, weight) if self.base and key in self.base.keys else weight
        return self.top.weight(key, below) if key in self.top.keys else below

    def tokens(self, tokens: Tensor) -> Tensor:
        return self.top.tokens(self.base.tokens(tokens) if self.base else tokens)


def fine_tuned(denoiser: Denoiser, z_0: Tensor, contexts: Context, edit: Edit | None, *, seed: int = 0) -> Edit:
    """`edit` after STEPS Adam steps on latents z_0 [m, c, h, w], each with its context [m, n, d]."""
    generator = torch.Generator().manual_seed(seed)
    top = LowRankEdit(denoiser.weights("xattn-kv"), RANK, generator)
    both, leaves = On(edit, top), top.parameters()
    optimizer = torch.optim.Adam(leaves, lr=RATE)
    for _ in range(STEPS):
        seen = noised(denoiser, z_0, BATCH, generator)
        missed = loss(denoiser, seen, contexts[seen.row], both)
        for leaf, gradient in zip(leaves, torch.autograd.grad(missed, leaves), strict=True):
            leaf.grad = gradient
        optimizer.step()
    for leaf in leaves:
        leaf.requires_grad_(False)
    return both
