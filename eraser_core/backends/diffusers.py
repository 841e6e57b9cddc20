"""One of diffusers' networks as a `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn
from torch.func import functional_call

from ..denoiser import Context, Edit, Rows, Schedule, Tune, tuned
from ..files import tensors_hash
from .half_precision import edited, fp16_gain, scaled
from .recompute import Recomputed
from .wiring import UNetWiring, Wiring, rows_below

PICTURES_AT_ONCE = 16


class TextEncoder(Protocol):
    """Prompts to contexts."""

    tokens_per_chunk: int

    def encode(self, prompts: Sequence[str]) -> Context: ...

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor: ...

    def token_count(self, prompt: str) -> int: ...

    def excess(self, prompt: str) -> int: ...

    def release(self) -> None:
        """Let go of memory that the next `encode` can take again."""


@dataclass(frozen=True)
class Budget:
    """How memory is traded for time.

    `rows_at_once` bounds the rows of a forward without gradient (and the pictures of a decoding); `recompute` computes
    activations again in the backward; the text encoder is let go of before the first forward with gradient, or with
    `release_text_early` before any forward.
    """

    rows_at_once: int | None = None
    recompute: bool = False
    release_text_early: bool = False


class DiffusersDenoiser:
    """One frozen network: the teacher as it is, the student under an edit, which `functional_call` puts in for one forward.

    `autoencoder` may be a function that reads it: it is called at the first picture. `base_hash` is given where the
    network's numbers are no longer those of its file.
    """

    def __init__(
        self,
        family: str,
        network: UNet2DConditionModel | Wiring,
        text: TextEncoder,
        autoencoder: AutoencoderKL | AutoencoderTiny | Callable[[], AutoencoderKL],
        schedule: Schedule,
        *,
        base_hash: str | None = None,
        budget: Budget | None = None,
    ):
        self.family, self.schedule, self.rows = family, schedule, Rows()
        self.tokens_per_chunk = text.tokens_per_chunk
        self._text, self._autoencoder = text, autoencoder
        self.budget = budget or Budget()
        known = isinstance(network, UNet2DConditionModel)
        self._wiring: Wiring = UNetWiring(network, family == "sdxl") if known else network
        self._network: Any = self._wiring.network.eval()
        self._network.requires_grad_(False)
        self.latent_shape = self._wiring.latent_shape
        parameters = dict(self._network.named_parameters())
        self._weights = {key: rows_below(parameters, own) for key, own in self._wiring.names.items()}
        self.device = next(self._network.parameters()).device
        self._recomputed = self._recompute() if self.budget.recompute else None
        kv = self.weights("xattn-kv")
        self.base_hash = tensors_hash(kv, torch.float16) if base_hash is None else base_hash

    def _recompute(self) -> Recomputed:
        """Makes diffusers recompute the network's blocks in the backward."""
        recomputed = Recomputed(self._wiring.blocks())
        self._network.enable_gradient_checkpointing(recomputed.run)
        return recomputed

    @property
    def network(self) -> ModelMixin:
        """The network itself."""
        return self._network

    def encode(self, prompts: Sequence[str]) -> Context:
        with torch.no_grad():
            return self._text.encode(prompts)

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        with torch.no_grad():
            return self._text.encode_start(prompts, n)

    def as_read(self, tokens: Tensor) -> Tensor:
        return self._wiring.as_read(tokens)

    def token_count(self, prompt: str) -> int:
        return self._text.token_count(prompt)

    def excess(self, prompt: str) -> int:
        """How many of a prompt's tokens the text encoder has no room for; `encode` leaves them out."""
        return self._text.excess(prompt)

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        return {key: weight for key, weight in self._weights.items() if tuned(key, tune)}

    def all_weights(self) -> Mapping[str, Tensor]:
        """Every parameter by canonical name."""
        return self._weights

    def file_names(self) -> Mapping[str, str]:
        return {key.rpartition(".")[0]: self._wiring.file_name(key) for key in self._weights}

    def predict(self, z_t: Tensor, t: Tensor, context: Context, edit: Edit | None = None) -> Tensor:
        """The network's native output, float32. Without gradient, rows beyond the budget's are taken in turn."""
        with_gradient, most = torch.is_grad_enabled(), self.budget.rows_at_once
        if not with_gradient and most is not None and len(t) > most:
            parts = torch.arange(len(t), device=t.device).split(most)
            return torch.cat([self.predict(z_t[i], t[i], context[i], edit) for i in parts])
        self.rows.add(len(t))
        if with_gradient or self.budget.release_text_early:
            self._text.release()
        tokens, changed = context.tokens, dict[str, Callable[[], Tensor]]()
        gain = fp16_gain(z_t) if with_gradient and self._network.dtype == torch.float16 else 1.0
        if edit is not None:
            tokens = edit.tokens(tokens)
            for key in edit.keys:
                changed |= self._parts(key, partial(edited, edit, key, self._weights[key], gain))
        out = self._forward(z_t, t, context.with_tokens(scaled(tokens, 1 / gain)), changed)
        return scaled(out.float(), gain)

    def _parts(self, key: str, make: Callable[[], Tensor]) -> dict[str, Callable[[], Tensor]]:
        """How to form each of the network's own parameters that are rows of W'."""
        names = self._wiring.names[key]
        if len(names) == 1:
            return {names[0]: make}
        sizes = [len(self._network.get_parameter(name)) for name in names]
        return {name: partial(_part, make, sizes, i) for i, name in enumerate(names)}

    def _forward(self, z_t: Tensor, t: Tensor, context: Context, changed: Mapping[str, Callable[[], Tensor]]) -> Tensor:
        recomputed = self._recomputed
        args, words = self._wiring.call(z_t.to(self._network.dtype), t, context)
        inner = changed if recomputed is not None and torch.is_grad_enabled() else {}
        inner = {own: make for own, make in inner.items() if recomputed and own in recomputed.inside}
        outer = {own: make() for own, make in changed.items() if own not in inner}
        with recomputed.under(inner) if recomputed else nullcontext():
            out: Tensor = functional_call(self._network, outer, args, words)[0]
        return self._wiring.native(out)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] in [0, 1] of latents [b, c, h / 8, w / 8], on the CPU."""
        if self.budget.release_text_early:
            self._text.release()
        autoencoder: Any = self._autoencoder if isinstance(self._autoencoder, nn.Module) else self._autoencoder()
        if not self.budget.release_text_early:
            self._autoencoder = autoencoder
        parts = latents.split(self.budget.rows_at_once or PICTURES_AT_ONCE)
        scale = float(autoencoder.config.scaling_factor)
        images = [autoencoder.decode(part.to(autoencoder.dtype) / scale).sample.float().cpu() for part in parts]
        return (torch.cat(images) / 2 + 0.5).clamp(0, 1)


def _part(make: Callable[[], Tensor], sizes: list[int], i: int) -> Tensor:
    return make().split(sizes)[i]
