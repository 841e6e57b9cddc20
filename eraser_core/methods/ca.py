"""CA: Ablating Concepts in Text-to-Image Diffusion Models (Kumari et al., arXiv 2303.13516), the model-based variant.

    || eps_theta'(z_t, c) - sg[ eps_theta'(z_t, c_anchor) ] + b (eps_theta(z_t, c) - eps_theta(z_t, c_anchor)) ||^2

sg is stop-gradient: the anchor's prediction comes from the network that is being tuned, so it cannot be computed once.
The paper has b = 0; why it is not 0 here stands in eraser_core/overshoot.py. theta is the frozen network.
z_t are noised pictures of the anchor that the model itself generated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..denoiser import Context, Denoiser
from ..latents import OnFill
from ..overshoot import overshoot_field
from ..request import Request
from ..training import Learner, Part, TrainingSettings


class CASettings(TrainingSettings):
    """The authors' defaults: 100 iterations of 4 at 2e-6 times the batch, 200 generated anchor pictures."""

    iterations: int = Field(100, ge=1, description="training steps")
    batch: int = Field(4, ge=1, description="z_t a step")
    eta: float = Field(8e-6, gt=0, description="learning rate of the network (the authors': 2e-6 times the batch)")
    anchor_images: int = Field(200, ge=1, description="pictures of the anchor that are generated first")
    overshoot: float = overshoot_field()
    anchor_guidance: float = Field(6.0, ge=1, description="guidance scale of those pictures")

    def filled(self, request: Request) -> int:
        """The anchor's pictures come first here."""
        retain = self.pool_shapes(request).get("retain")
        return self.anchor_images + (retain.size if retain else 0)

    def kept_latents(self, request: Request) -> int:
        """The anchor's pictures stand where others have a pool."""
        return self.anchor_images + self._retained_latents(request)


class CA(Learner):
    """Match the concept's prediction to the anchor's."""

    def __init__(self, denoiser: Denoiser, request: Request, settings: CASettings, key_seed: int | None = None):
        self.settings: CASettings = settings
        super().__init__(denoiser, request, settings)
        self.z_0 = torch.zeros(settings.anchor_images, *denoiser.latent_shape, device=denoiser.device)

    def parts(self) -> dict[str, Part]:
        return super().parts() | {"z_0": [self.z_0]}

    def begin(self, on_fill: OnFill | None = None) -> None:
        """Generate the anchor's pictures: row i is of pair i modulo the pairs."""
        super().begin(on_fill)
        self.draw_pictures(self.z_0, self.neutral, self.settings.anchor_guidance, on_fill)

    def noised(self) -> tuple[Tensor, Tensor, Tensor]:
        """(z_t, t, pair) of a batch of anchor pictures at random timesteps."""
        b, device = self.settings.batch, self.z_0.device
        i = torch.randint(len(self.z_0), (b,), generator=self.generator).to(device)
        t = torch.randint(self.denoiser.schedule.steps, (b,), generator=self.generator).to(device)
        eps = torch.randn(b, *self.denoiser.latent_shape, generator=self.generator).to(device)
        a, sigma = self.denoiser.schedule.signal_and_noise(t)
        return a * self.z_0[i] + sigma * eps, t, i % len(self.neutral)

    def beyond(self, z_t: Tensor, t: Tensor, pair: Tensor) -> Tensor:
        """b (eps_theta(z_t, c) - eps_theta(z_t, c_anchor)) of the frozen network."""
        if not self.settings.overshoot:
            return torch.zeros_like(z_t)
        both = Context.cat([self.erased[pair], self.neutral[pair]])
        concept, anchor = self.denoiser.predict(torch.cat([z_t, z_t]), torch.cat([t, t]), both).chunk(2)
        return self.settings.overshoot * (concept - anchor)

    def step(self, step: int) -> dict[str, float]:
        z_t, t, pair = self.noised()
        with torch.no_grad():
            anchor = self.predict(z_t, t, self.neutral[pair]) - self.beyond(z_t, t, pair)
        student, losses = self.predict_and_retain(z_t, t, self.erased[pair], step)
        losses["erase"] = F.mse_loss(student, anchor)
        self.descend(losses, {})
        return {name: float(loss.detach()) for name, loss in losses.items()}
