"""Pictures from a denoiser, with classifier-free guidance (Ho and Salimans, arXiv 2207.12598).

Two solvers of the same differential equation: DDIM (Song et al., arXiv 2010.02502), which on a flow-matching model is
Euler's method, and DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2), which is of second order and needs fewer
steps for the same picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from .denoiser import Context, Denoiser, Edit, Schedule

Solver = Literal["ddim", "dpmpp"]


def guided(
    denoiser: Denoiser, z_t: Tensor, t: Tensor, context: Context, negative: Context, guidance: float, edit: Edit | None
) -> Tensor:
    """eps(null) + guidance (eps(c) - eps(null)) in the network's native prediction; both halves in one forward.

    Where the two contexts have different lengths (a hidden prompt in one of them) they go one after the other.
    """
    if guidance == 1:
        return denoiser.predict(z_t, t, context, edit)
    if negative.tokens.shape[1] != context.tokens.shape[1]:
        null, positive = (denoiser.predict(z_t, t, c, edit) for c in (negative, context))
        return null + guidance * (positive - null)
    both = Context.cat([negative, context])
    out = denoiser.predict(torch.cat([z_t, z_t]), torch.cat([t, t]), both, edit)
    null, positive = out.chunk(2)
    return null + guidance * (positive - null)


@torch.no_grad()
def trajectory(
    denoiser: Denoiser,
    noise: Tensor,
    context: Context,
    negative: Context,
    steps: int,
    guidance: float,
    edit: Edit | None = None,
    solver: Solver = "ddim",
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(step, t [b], z_t [b, c, h, w]) before each of the steps and, with step = `steps` and t = 0, the last latents.

    `noise` [b, c, h, w] is standard; `context` has b rows, `negative` one or b.
    """
    b, z = len(noise), noise
    negative = negative.expand(b) if len(negative) == 1 else negative
    grid = denoiser.schedule.grid(steps)
    before: Tensor | None = None
    for i, now in enumerate(grid.tolist()):
        t = torch.full((b,), now, device=z.device)
        yield i, t, z
        z_0, eps = denoiser.schedule.split(guided(denoiser, z, t, context, negative, guidance, edit), z, t)
        if i + 1 == steps:
            z = z_0
        elif solver == "dpmpp":
            z, before = _second_order(denoiser.schedule, grid[max(i - 1, 0) : i + 2], z, z_0, before), z_0
        else:
            a, s = denoiser.schedule.signal_and_noise(torch.full_like(t, int(grid[i + 1])))
            z = a * z_0 + s * eps
    yield steps, torch.zeros_like(t), z


def _second_order(schedule: Schedule, times: Tensor, z: Tensor, z_0: Tensor, before: Tensor | None) -> Tensor:
    """z at times[-1] from z at times[-2]; `before` is the z_0 that was found at times[0], None in the first step.

    With lambda = log(signal / noise) and h its step: z' = s'/s z - a' (exp(-h) - 1) D, where D goes on from the last two
    z_0 in a straight line.
    """
    a, s = schedule.levels(times)
    steps = (a / s).log().diff()
    towards = z_0
    if before is not None:
        towards = z_0 + float(steps[-1] / (2 * steps[-2])) * (z_0 - before)
    return float(s[-1] / s[-2]) * z - float(a[-1] * torch.expm1(-steps[-1])) * towards


def sample(
    denoiser: Denoiser,
    noise: Tensor,
    context: Context,
    negative: Context,
    steps: int,
    guidance: float,
    edit: Edit | None = None,
    solver: Solver = "ddim",
) -> Tensor:
    """Latents [b, c, h, w] of pictures."""
    for _, _, z in trajectory(denoiser, noise, context, negative, steps, guidance, edit, solver):
        latents = z
    return latents


def picture_seed(suite_seed: int, index: int) -> int:
    """The seed of a picture, from (suite seed, index) alone."""
    return int.from_bytes(hashlib.sha256(f"{suite_seed}/{index}".encode()).digest()[:7], "big")


def seeded_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Standard noise [len(seeds), *shape] on the CPU, each picture's from its own seed, whatever the batch."""
    return torch.stack([torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def noise_for(shape: Sequence[int], suite_seed: int, indices: Sequence[int]) -> Tensor:
    """Standard noise [len(indices), *shape], each picture's from (suite seed, index) alone.

    So a resumed or divided run draws the same pictures, whatever its batches.
    """
    return seeded_noise(shape, [picture_seed(suite_seed, index) for index in indices])
