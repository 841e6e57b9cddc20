"""Which part of a picture a word is responsible for: DAAM (Tang et al., arXiv 2210.04885, eq. 6 to 8).

A token's heat map is the softmax weight that the picture's queries give to it in the attn2 blocks, upsampled to the
latents' size and averaged over blocks, heads and steps. The paper sums; the mean is the same map on a scale where all
tokens of one pixel add up to 1 (up to what bicubic upsampling overshoots). Only the conditional half of the guidance
is looked at. One difference to the authors' code: heads are averaged before upsampling, so undershoot is clamped once a
block and not once a head, and memory holds no map a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...denoiser import Context, Denoiser, Edit
from ...errors import ModelError
from ...sampling import sample
from .attention import attn2_calls, probabilities


@dataclass(frozen=True)
class HeatMaps:
    """Heat maps of one sampling, a map a context token, not normalised: `maps` [b, tokens, h, w], float32 on the
    CPU, h and w the latents'. `latents` [b, c, h, w] are the pictures that were drawn meanwhile."""

    maps: Tensor
    latents: Tensor

    def of(self, positions: Sequence[int]) -> Tensor:
        """[b, h, w] the map of a word: the mean over its tokens (see `attention.word_positions`)."""
        return self.maps[:, list(positions)].mean(1)


def heat_maps(
    denoiser: Denoiser,
    noise: Tensor,
    context: Context,
    negative: Context,
    steps: int,
    guidance: float,
    edit: Edit | None = None,
) -> HeatMaps:
    """Draw pictures as `sampling.sample` does and keep the tokens' heat maps.

    A hidden prompt is used by extending the context (`HiddenPrompt.join`), its tokens have maps of their own after the
    prompt's. ModelError if the network has no attn2 blocks.
    """
    b, sums = len(noise), dict[str, Tensor]()

    def take(block: str, q: Tensor, k: Tensor) -> None:
        # The last b rows are the conditional half, with guidance or without; a negative half of another length runs by
        # itself (sampling.guided).
        if k.shape[2] != context.tokens.shape[1]:
            return
        maps = probabilities(q[-b:], k[-b:]).mean(1).transpose(1, 2)
        sums[block] = sums[block] + maps if block in sums else maps

    with attn2_calls(denoiser.network, take):
        latents = sample(denoiser, noise, context, negative, steps, guidance, edit)
    h, w = noise.shape[-2:]
    blocks = [upsample(total / steps, h, w) for total in sums.values()]
    return HeatMaps(torch.stack(blocks).mean(0).cpu(), latents)


def upsample(maps: Tensor, h: int, w: int) -> Tensor:
    """A block's maps [b, tokens, pixels] at the latents' size [b, tokens, h, w], by bicubic interpolation, no negatives."""
    pixels = maps.shape[-1]
    for factor in (2**i for i in range(8)):
        rows, columns = math.ceil(h / factor), math.ceil(w / factor)
        if rows * columns == pixels:
            grid = maps.unflatten(-1, (rows, columns))
            return F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False).clamp(min=0)
    raise ModelError(f"an attn2 block of {pixels} pixels does not fit latents of {h} x {w}: its maps cannot be placed")


def silhouette(images: Tensor, white: float = 0.9) -> Tensor:
    """[b, h, w] where pictures [b, 3, h, w] in [0, 1] on a white ground are drawn on."""
    return (images < white).any(1)


def share_on(maps: Tensor, mask: Tensor) -> Tensor:
    """[b] the share of the weight of maps [b, h, w] that lies on masks [b, H, W], each cell by its covered area."""
    size = (int(maps.shape[-2]), int(maps.shape[-1]))
    covered = F.adaptive_avg_pool2d(mask.to(maps)[:, None], size)[:, 0]
    return (maps * covered).sum((1, 2)) / maps.sum((1, 2)).clamp(min=1e-12)


def overlay(images: Tensor, maps: Tensor) -> Tensor:
    """Pictures [b, 3, H, W] in [0, 1] under maps [b, h, w]: blue where a map is 0, red where it is highest."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    heat = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)
    heat = heat / heat.amax((2, 3), keepdim=True).clamp(min=1e-12)
    colours = torch.cat([heat, 1 - (2 * heat - 1).abs(), 1 - heat], 1)
    return (images.to(colours) + colours) / 2
