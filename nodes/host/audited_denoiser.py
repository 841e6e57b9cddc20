"""A MODEL with its CLIP and VAE as the denoiser that an audit's attacks draw with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eraser_core.errors import RequestError
from eraser_core.models import SHIPPED

from . import model as host_model
from .denoiser import HostDenoiser
from .preview import check_vae, decode


class AuditedDenoiser(HostDenoiser):
    """A MODEL that attacks draw with, and that reads pictures through its VAE."""

    def __init__(self, model: Any, clip: Any, vae: Any):
        super().__init__(model, clip, *2 * (host_model.own_size(model),))
        check_vae(vae, self)
        self._vae = vae
        if self.family not in SHIPPED:
            self.use("low")  # attacks take gradients of eight pictures at once

    def excess(self, prompt: str) -> int:
        """How many of a prompt's words are in further chunks; RequestError for a word that the model has never heard."""
        unknown: list[str] = getattr(self._tokenizer(), "unknown_words", lambda text: [])(prompt)
        if unknown:
            raise RequestError(f"the model does not know the word {unknown[0]!r}")
        return sum(1 for chunk in self._sections(prompt, words=True)[1:] for _, _, word in chunk if word != 0)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Latents [b, c, h / 8, w / 8] of pictures [b, 3, h, w] in [0, 1], in the model's scale."""
        latents = self._vae.encode(images.movedim(1, -1)).clone()
        self.release()  # the host may have moved the UNet out for the VAE
        return self._model.model.process_latent_in(latents).float().to(self.device)

    @torch.no_grad()
    def decode_images(self, latents: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] in [0, 1], on the CPU."""
        return decode(self._vae, self, latents).movedim(-1, 1)
