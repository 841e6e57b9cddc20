"""A white-box attack: learn a context from pictures of a concept, on the edited network itself.

    v* = argmin over v of E || eps - eps_theta'(z_t, v) ||^2,   z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps

Textual inversion over all tokens of a context (Gal et al., arXiv 2208.01618; the attack of CCE, arXiv 2308.01508).
What it draws of an object that the model never knew is the floor that a figure must be read against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...denoiser import Context, Denoiser, Edit


def learn_context(
    denoiser: Denoiser,
    z_0: Tensor,
    start: Context,
    edit: Edit | None,
    *,
    iterations: int = 200,
    batch: int = 8,
    rate: float = 2e-2,
    seed: int = 0,
) -> Context:
    """The context [1, n, d] that draws pictures like z_0 [m, c, h, w], beginning at `start` [1, n, d].

    The target is whatever the network predicts, eps, v or eps - z_0: the same loss up to its weight over timesteps.
    """
    generator = torch.Generator().manual_seed(seed)
    v = start.tokens.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([v], lr=rate)
    steps = denoiser.schedule.steps
    for _ in range(iterations):
        i = torch.randint(len(z_0), (batch,), generator=generator)
        t = torch.randint(steps, (batch,), generator=generator).to(z_0.device)
        eps = torch.randn(batch, *z_0.shape[1:], generator=generator).to(z_0)
        a, s = denoiser.schedule.signal_and_noise(t)
        clean = z_0[i.to(z_0.device)]
        target = denoiser.schedule.native(clean, eps, t)
        loss = F.mse_loss(denoiser.predict(a * clean + s * eps, t, start.with_tokens(v).expand(batch), edit), target)
        (v.grad,) = torch.autograd.grad(loss, [v])
        optimizer.step()
    return start.with_tokens(v.detach())
