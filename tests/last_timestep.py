"""A training step at the last timestep of a model with zero terminal SNR, whose z_t is pure noise there."""

from __future__ import annotations

from typing import Any

import torch

from eraser_core.latents import Draw, LatentPool
from eraser_core.methods import METHODS
from eraser_core.methods.kpop import KPOP
from eraser_core.request import Request, Target

REQUEST = Request((Target("a church", "a castle", (), ("{}",)),), ("a dog",))
FEW = {"rank": 4, "batch": 1, "sampler_steps": 2, "pool_size": 4, "per_trajectory": 2, "eta": 1e-2, "k": 4}


def stepped(denoiser: Any) -> dict[str, float]:
    """The losses of one KPOP step at the last timestep, after its targets and what it does were looked at."""
    learner = KPOP(denoiser, REQUEST, METHODS["kpop"].configure("sdxl", FEW), key_seed=0)
    learner.begin()
    last = denoiser.schedule.steps - 1

    def at_the_end(pool: LatentPool, step: int) -> Draw:
        return next(draw for draw in iter(lambda: pool.draw(1), None) if int(draw.t) == last)

    learner.draw = at_the_end  # type: ignore[method-assign]
    draw = at_the_end(learner.pools["erase"], 0)
    assert 0.8 < float(draw.z_t.std()) < 1.2
    with torch.no_grad():
        for target, contexts in zip(draw.targets, (learner.neutral, learner.erased), strict=True):
            assert torch.allclose(target, denoiser.predict(draw.z_t, draw.t, contexts[draw.row]), atol=1e-5)
    assert not torch.allclose(*draw.targets, atol=1e-4)
    # v = a eps - s z_0 with a = 0 and s = 1: the target is the anchor's picture, and all of z_t is noise.
    z_0, eps = denoiser.schedule.split(draw.targets[0], draw.z_t, draw.t)
    assert torch.allclose(z_0, -draw.targets[0], atol=2e-3) and torch.allclose(eps, draw.z_t, atol=2e-3)
    picture = torch.randn(z_0.shape)
    assert torch.allclose(denoiser.schedule.native(picture, draw.z_t, draw.t), -picture, atol=2e-3)
    before = [p.detach().clone() for p in learner.edit.parameters()]
    losses = learner.step(0)
    after = learner.edit.parameters()
    assert all(bool(p.isfinite().all()) for p in [*after, learner.p])
    assert any(not torch.equal(p, q) for p, q in zip(before, after, strict=True))
    assert all(torch.tensor(loss).isfinite() for loss in losses.values()) and losses["erase"] > 0
    return losses
