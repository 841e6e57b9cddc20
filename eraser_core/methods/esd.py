"""ESD: Erasing Concepts from Diffusion Models (Gandikota et al., arXiv 2303.07345).

    eps_theta'(z_t, c_from)  ->  eps_theta(z_t, c_from) - eta_g (eps_theta(z_t, c) - eps_theta(z_t, null))

c_from is the concept itself unless another prompt is to be steered away from it. The authors' older code has
eps_theta(z_t, null) as the first term, with 1000 iterations at 1e-5: the same target for c_from = null. z_t come from
the frozen network, so their pool never goes stale and the whole target is stored with it.

`tune`: `xattn` is the authors' ESD-x, `xattn-kv` x-strict, `noxattn` ESD-u.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from pydantic import Field

from ..denoiser import Denoiser
from ..request import Request
from ..training import Learner, TrainingSettings


class ESDSettings(TrainingSettings):
    """The authors' defaults: 200 iterations at 5e-5, negative guidance 2, z_t at guidance 3.

    The pool is ours: 200 draws from one of 256 would use most of its z_t once or never.
    """

    iterations: int = Field(200, ge=1, description="training steps")
    eta: float = Field(5e-5, gt=0, description="learning rate of the network")
    pool_size: int = Field(64, ge=1, description="z_t in the pool, for each concept to erase")
    negative_guidance: float = Field(2.0, gt=0, description="eta_g: how far the prediction is pushed from the concept")
    teachers: ClassVar[int] = 3  # at c_from, c and null
    from_anchor: bool = Field(False, description="c_from is the anchor's prompt instead of the concept's")


class ESD(Learner):
    """Push the prediction for c_from away from the concept."""

    def __init__(self, denoiser: Denoiser, request: Request, settings: ESDSettings, key_seed: int | None = None):
        self.settings: ESDSettings = settings
        super().__init__(denoiser, request, settings)
        self.c_from = self.neutral if settings.from_anchor else self.erased
        null = denoiser.encode([""]).expand(len(self.erased))
        self.pools["erase"] = self.pool(self.erased, self.c_from, self.erased, null)

    def step(self, step: int) -> dict[str, float]:
        draw = self.draw(self.pools["erase"], step)
        eps_from, eps_c, eps_null = draw.targets
        target = eps_from - self.settings.negative_guidance * (eps_c - eps_null)
        student, losses = self.predict_and_retain(draw.z_t, draw.t, self.c_from[draw.row], step)
        losses["erase"] = F.mse_loss(student, target)
        self.descend(losses, {})
        return {name: float(loss.detach()) for name, loss in losses.items()}
