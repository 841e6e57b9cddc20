"""A MODEL and CLIP for what reads texts and matrices alone: closed forms, combining, the warning of stacked files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eraser_core.denoiser import Context, Tune
from eraser_core.errors import RequestError
from eraser_core.text_places import LENGTH, Pooled, Stretch, at_length
from eraser_core.text_readers import TextReader

from . import model as host_model
from .denoiser import HostDenoiser
from .loading import SMALLEST
from .text_places import encoders, places


class UnloadedDenoiser(HostDenoiser):
    """Draws nothing, so the network is neither moved nor copied.

    Everything is in main memory: they solve in float64, which not every accelerator has.
    """

    transformers = True

    def __init__(self, model: Any, clip: Any):
        super().__init__(model, clip, *2 * (SMALLEST,))
        self.device = torch.device("cpu")
        self._first: Callable[..., Tensor] | None = None
        self._pieces: tuple[Stretch, ...] = ()
        self._pooled = host_model.pooled_weights(model)
        self._vectors: dict[str, Tensor] = {}
        if self.family in host_model.TRANSFORMERS:
            self._first = host_model.first_network(model)
            self._encoders = encoders(clip) if self.family == host_model.SD3 else ("",)
            nothing = self.encode([""]).tokens.split(LENGTH, 1)
            found = [places(clip, *one) for one in zip(nothing, self._encoders, strict=True)]
            self._pieces = tuple(Stretch(self, i, place) for i, place in enumerate(found))

    def encode(self, prompts: Sequence[str]) -> Context:
        """As the parent's; transformers' states, which are long and wide, are cut or filled to one length and not kept.

        They are those that the matrices read but for a norm, [len(prompts), 64 for each stretch, d].
        """
        if self.family not in host_model.TRANSFORMERS:
            return super().encode(prompts)
        return Context(torch.cat([self._at_length(self._read(prompt).tokens) for prompt in prompts]))

    def vectors(self, prompts: Sequence[str]) -> Tensor:
        """The pooled texts [len(prompts), p]."""
        for prompt in prompts:
            if prompt not in self._vectors:
                self._read(prompt)
        return torch.cat([self._vectors[prompt] for prompt in prompts])

    def _read(self, prompt: str) -> Context:
        context = self._encode(prompt)
        if context.pooled is not None:
            self._vectors[prompt] = context.pooled
        return context

    def _at_length(self, tokens: Tensor) -> Tensor:
        several = len(self._encoders) > 1
        n = self.tokens_per_chunk  # CLIP's, which come first
        return torch.cat([at_length(part) for part in ([tokens[:, :n], tokens[:, n:]] if several else [tokens])], 1)

    def _taken(self, found: Mapping[str, Any]) -> Context:
        context = super()._taken(found)
        if self._pooled:
            return replace(context, pooled=self._vector_of(found["pooled_output"]))
        if self._first is None:
            return context
        ids = found.get("t5xxl_ids")
        if self.family == host_model.ANIMA and ids is None:
            raise RequestError(
                "this CLIP gives no T5 tokens, and Anima makes of them what it reads: connect the CLIP of the Anima checkpoint"
            )
        return Context(self._first(context.tokens, *(() if ids is None else (ids[None].clone(),))))

    def _vector_of(self, pooled: Tensor | None) -> Tensor:
        (width,) = {weight.shape[1] for weight in self._pooled.values()}
        if pooled is None or not pooled.any():
            raise RequestError(
                f"this CLIP gives no pooled text, which this MODEL ({self.family}) reads beside the tokens: load clip_l with it, "
                "and for Stable Diffusion 3 clip_g"
            )
        if pooled.shape[-1] != width:
            raise RequestError(
                f"this CLIP gives a pooled text of {pooled.shape[-1]} numbers, this MODEL ({self.family}) reads {width}: connect the "
                "CLIP of the same checkpoint"
            )
        return pooled.clone().to(self.device, torch.float32)

    def places(self) -> Sequence[TextReader]:
        """The tokens, and in some families the pooled text."""
        return (self, Pooled(self.family, self.vectors, self._pooled)) if self._pooled else (self,)

    def stretches(self) -> Sequence[TextReader]:
        """The encoders whose states follow each other, where there are several."""
        return self._pieces if len(self._pieces) > 1 else (self,)

    def token_count(self, prompt: str) -> int:
        return self._pieces[0].token_count(prompt) if self._pieces else super().token_count(prompt)

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        """Float32, with the LoRAs that the MODEL carries."""
        return host_model.patched_weights(self._model, tune)
