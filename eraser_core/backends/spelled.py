"""Stable Diffusion with its words' embeddings at hand: attacks learn words and look for them (evaluation/attacks/)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..denoiser import Context
from .diffusers import DiffusersDenoiser
from .half_precision import scaled
from .text_encoders import StoredText

# The gradient of a loss at one text is small: about 1e-7 a number, where fp16 has no digits left.
FP16_GAIN = 2.0**14


class SpelledText(StoredText):
    """A text whose words' embeddings are at hand. SDXL's two encoders have theirs side by side."""

    _spelled = False

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of every token by its number, "" for a token that is a piece of a word or a mark."""
        return self._tokens.vocabulary

    @property
    def word_embeddings(self) -> Tensor:
        """[words, d] float32."""
        return torch.cat([part.weight.float() for part in self._ready().words], 1)

    def encode_changed(self, prompts: Sequence[str], change: Callable[[Tensor], Tensor]) -> Context:
        """Contexts with the words' embeddings [len(prompts), 77, d] float32 changed; gradients flow.

        Whoever learns words needs the encoders at every step: from here on `release` keeps them.
        """
        encoder, self._spelled = self._ready(), True
        parts = encoder.words
        gain = FP16_GAIN if parts[0].weight.dtype == torch.float16 else 1.0
        own = [part(ids).float() for part, ids in zip(parts, encoder.ids(self._tokens, prompts), strict=True)]
        changed = scaled(change(torch.cat(own, -1)), 1 / gain).split([o.shape[-1] for o in own], -1)
        with ExitStack() as hooks:
            for part, embedded in zip(parts, changed, strict=True):
                hooks.callback(part.register_forward_hook(_gives(embedded)).remove)
            found = encoder(self._tokens, prompts)
        pooled = None if found.pooled is None else scaled(found.pooled, gain)
        return Context(scaled(found.tokens, gain), pooled, found.size_ids)

    def release(self) -> None:
        if not self._spelled:
            super().release()


def _gives(embedded: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A forward hook that hands on these embeddings in place of a module's own."""
    return lambda module, given, own: embedded.to(own.dtype)


class SpelledDenoiser(DiffusersDenoiser):
    """A UNet whose text encoders' words are at hand."""

    def __init__(self, family: str, network: UNet2DConditionModel, text: SpelledText, *rest: Any, **named: Any):
        super().__init__(family, network, text, *rest, **named)
        self._spelled = text

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """As SpelledText has it."""
        return self._spelled.vocabulary

    @property
    def word_embeddings(self) -> Tensor:
        """As SpelledText has it."""
        return self._spelled.word_embeddings

    def encode_changed(self, prompts: Sequence[str], change: Callable[[Tensor], Tensor]) -> Context:
        """As SpelledText has it."""
        return self._spelled.encode_changed(prompts, change)
