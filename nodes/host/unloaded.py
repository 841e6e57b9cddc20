"""A MODEL and CLIP for what reads texts and matrices alone: closed forms, combining, the warning of stacked files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eraser_core.denoiser import Context, Tune

from . import model as host_model
from .denoiser import SMALLEST, HostDenoiser
from .text_places import TextPlaces, at_length


class UnloadedDenoiser(HostDenoiser):
    """Draws nothing, so the network is neither moved nor copied.

    Everything is in main memory: they solve in float64, which not every accelerator has.
    """

    draws = False

    def __init__(self, model: Any, clip: Any):
        super().__init__(model, clip, *2 * (SMALLEST,))
        self.device = torch.device("cpu")
        self._places: TextPlaces | None = None
        if self.family in host_model.CLOSED_ONLY:
            self._places = TextPlaces(clip, self.encode([""]).tokens)

    def encode(self, prompts: Sequence[str]) -> Context:
        """As the parent's; transformers' states, which are long and wide, are cut or filled to one length and not kept."""
        if self.family not in host_model.CLOSED_ONLY:
            return super().encode(prompts)
        return Context(torch.cat([at_length(self._encode(prompt).tokens) for prompt in prompts]))

    def token_count(self, prompt: str) -> int:
        return super().token_count(prompt) if self._places is None else self._places.end(prompt)

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        """Float32, with the LoRAs that the MODEL carries."""
        return host_model.patched_weights(self._model, tune)
