"""MODELs whose CLIP's words are at hand, so that attacks learn words and look for them: as the engine's backends/spelled.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from eraser_core.backends.clip_tokens import shipped_tokens
from eraser_core.backends.half_precision import scaled
from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.backends.spelled import FP16_GAIN
from eraser_core.denoiser import Context

from .audited_denoiser import AuditedDenoiser
from .text_places import unweighted

SPELLED = ("sd1", "sd2", "sdxl")


class AuditedPocket(AuditedDenoiser):
    """The shipped pocket model, whose words' embeddings the engine reads from its own copy of the same file."""

    def __init__(self, model: Any, clip: Any, vae: Any, own: PocketDenoiser):
        super().__init__(model, clip, vae)
        self._own = own

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._own.vocabulary

    @property
    def word_embeddings(self) -> Tensor:
        return self._own.word_embeddings

    def encode_changed(self, prompts: Sequence[str], change: Callable[[Tensor], Tensor]) -> Context:
        context = self._own.encode_changed(prompts, change)
        return context.with_tokens(context.tokens.to(self.device))

    def _encode(self, prompt: str) -> Context:
        """A prompt that is too long loses its end, as in the engine."""
        if self.excess(prompt):
            context = self._own.encode([prompt])
            return context.with_tokens(context.tokens.to(self.device))
        return super()._encode(prompt)


class SpelledDenoiser(AuditedDenoiser):
    """A MODEL of one of the families SPELLED. SDXL's two text encoders have their words' embeddings side by side."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of every token by its number, "" for a token that is a piece of a word or a mark."""
        return shipped_tokens().vocabulary

    @property
    def word_embeddings(self) -> Tensor:
        """[words, d] float32."""
        parts = [words.weight.detach().clone().float() for words in self._words().values()]
        return torch.cat(parts, 1).to(self.device)

    def encode_changed(self, prompts: Sequence[str], change: Callable[[Tensor], Tensor]) -> Context:
        """Contexts with the words' embeddings [len(prompts), 77, d] float32 changed; gradients flow."""
        words, said = self._words(), [self._clip.tokenize(prompt, **unweighted(self._clip)) for prompt in prompts]
        gain = FP16_GAIN if any(part.weight.dtype == torch.float16 for part in words.values()) else 1.0
        own = [
            torch.stack([part.weight.clone().float()[[int(pair[0]) for pair in one[name][0]]] for one in said])
            for name, part in words.items()
        ]
        changed = scaled(change(torch.cat(own, -1).to(self.device)), 1 / gain)
        parts = dict(zip(words, changed.split([o.shape[-1] for o in own], -1), strict=True))
        self.release()  # the host may move the UNet out for the text encoder
        rows = [self._read(one, {name: part[i] for name, part in parts.items()}) for i, one in enumerate(said)]
        found = Context.cat(rows)
        pooled = None if found.pooled is None else scaled(found.pooled, gain)
        return Context(scaled(found.tokens, gain), pooled, found.size_ids)

    def _read(self, tokens: Any, embedded: Mapping[str, Tensor]) -> Context:
        """One text with the embeddings [77, d] of its words by text encoder."""
        with ExitStack() as hooks:
            for name, part in self._words().items():
                hooks.callback(part.register_forward_hook(_gives(embedded[name])).remove)
            hooks.enter_context(saved_tensors_hooks(_copied, lambda saved: saved))
            found = self._clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
        return self._taken(found)

    def _words(self) -> dict[str, nn.Embedding]:
        """The module with the words' embeddings of each text encoder, as ordinary tensors that autograd accepts."""
        found = {}
        for name in sorted(self._clip.tokenize("", **unweighted(self._clip)), reverse=True):  # "l" before "g"
            encoder = getattr(self._clip.cond_stage_model, f"clip_{name}").transformer
            for module in encoder.modules():
                for own, parameter in list(module.named_parameters(recurse=False)):
                    if parameter.is_inference():  # a loader's: the same values again
                        module._parameters[own] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            found[name] = encoder.get_input_embeddings()
        return found


def _copied(saved: Tensor) -> Tensor:
    """What a backward keeps, safe from the host's layers, which add to their inputs in place."""
    return saved.clone() if saved.requires_grad else saved


def _gives(embedded: Tensor) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A forward hook that hands on these embeddings in place of a module's own."""
    return lambda module, given, own: embedded.expand(own.shape).to(own)
