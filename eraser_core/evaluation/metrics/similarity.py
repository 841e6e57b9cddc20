"""Cosine similarity between visual and textual features (slides, figure 6b and 6c, which define it nowhere).

Ours: cos(W_q z, W_k c) for a word c of the prompt and cos(W_q z, W_k p) for the hidden prompt p, in every head of an
attn2 block, averaged over the tokens given, the pixels and the heads; a value a block, step and picture. Only the
conditional half of the guidance is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...denoiser import Context, Denoiser, Edit
from ...errors import RequestError
from ...sampling import trajectory
from .attention import attn2_calls


@dataclass(frozen=True)
class Cosines:
    """`values` by name of the tokens, each [blocks, steps, b], float32 on the CPU; the steps run from noise to picture."""

    blocks: tuple[str, ...]
    timesteps: tuple[int, ...]
    values: Mapping[str, Tensor]

    def curves(self, name: str) -> Tensor:
        """[blocks, steps] the means over the pictures: what the figure draws."""
        return self.values[name].mean(-1)


def cosine(q: Tensor, k: Tensor) -> Tensor:
    """[b] mean over heads, pixels and tokens of cos(q, k), for q [b, heads, pixels, d] and k [b, heads, tokens, d]."""
    # The mean over pixels and tokens of the cosines is the product of the mean unit vectors.
    visual, textual = (F.normalize(x.float(), dim=-1).mean(2) for x in (q, k))
    return (visual * textual).sum(-1).mean(1)


def cosines(
    denoiser: Denoiser,
    noise: Tensor,
    context: Context,
    negative: Context,
    steps: int,
    guidance: float,
    tokens: Mapping[str, Sequence[int]],
    edit: Edit | None = None,
) -> Cosines:
    """Draw pictures as `sampling.sample` does and follow the similarity of named groups of context tokens.

    `tokens` names positions in `context`: a word's by `attention.word_positions`, a concatenative hidden prompt's by
    `attention.added_positions`. An additive prompt has no tokens of its own: its word's are those of C + p.
    RequestError for a group without tokens, or with tokens that the context does not have.
    """
    length = context.tokens.shape[1]
    for name, positions in tokens.items():
        if not positions or max(positions) >= length:
            raise RequestError(f"{name!r} names no tokens of the context, which has {length}: {list(positions)}")
    b, found, timesteps = len(noise), dict[str, dict[str, list[Tensor]]](), list[int]()

    def take(block: str, q: Tensor, k: Tensor) -> None:
        if k.shape[2] != length:  # the negative half, by itself because it is of another length
            return
        for name, positions in tokens.items():
            value = cosine(q[-b:], k[-b:, :, list(positions)]).cpu()
            found.setdefault(name, {}).setdefault(block, []).append(value)

    with attn2_calls(denoiser.network, take):
        for step, t, _ in trajectory(denoiser, noise, context, negative, steps, guidance, edit):
            if step < steps:
                timesteps.append(int(t[0]))
    # Blocks in the order in which they ran, which is the order of the network's depth.
    blocks = tuple(next(iter(found.values()))) if found else ()
    values = {name: torch.stack([torch.stack(rows) for rows in by.values()]) for name, by in found.items()}
    return Cosines(blocks, tuple(timesteps), values)
