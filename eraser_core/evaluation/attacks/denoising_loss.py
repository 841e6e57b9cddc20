"""The loss that attacks learn by: how well a context explains pictures, on whichever network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...denoiser import Context, Denoiser, Edit


@dataclass(frozen=True)
class Noised:
    """z_t [b, c, h, w] at t [b], the native prediction that a perfect network would give there, and whose picture it is."""

    z_t: Tensor
    t: Tensor
    target: Tensor
    row: Tensor


def noised(denoiser: Denoiser, z_0: Tensor, batch: int, generator: torch.Generator) -> Noised:
    """A batch of latents z_0 [m, c, h, w] noised at random timesteps."""
    schedule = denoiser.schedule
    i = torch.randint(len(z_0), (batch,), generator=generator).to(z_0.device)
    t = torch.randint(schedule.steps, (batch,), generator=generator).to(z_0.device)
    eps = torch.randn(batch, *z_0.shape[1:], generator=generator).to(z_0)
    a, s = schedule.signal_and_noise(t)
    return Noised(a * z_0[i] + s * eps, t, schedule.native(z_0[i], eps, t), i)


def loss(denoiser: Denoiser, seen: Noised, context: Context, edit: Edit | None) -> Tensor:
    """E || target - eps_theta'(z_t, c) ||^2, a number."""
    return F.mse_loss(denoiser.predict(seen.z_t, seen.t, context, edit), seen.target)
