"""A diffusers UNet as a `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from torch.func import functional_call

from ..denoiser import Context, Edit, NoiseSchedule, Rows, Tune, tuned
from ..files import tensors_hash
from .half_precision import edited, fp16_gain, scaled
from .ldm_keys import diffusers_to_ldm
from .recompute import Recomputed

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
    """One frozen UNet: the teacher as it is, the student under an edit, which `functional_call` puts in for one forward.

    `autoencoder` may be a function that reads it: it is called at the first picture. `base_hash` is given where the
    UNet's numbers are no longer those of its file.
    """

    def __init__(
        self,
        family: str,
        unet: UNet2DConditionModel,
        text: TextEncoder,
        autoencoder: AutoencoderKL | AutoencoderTiny | Callable[[], AutoencoderKL],
        schedule: NoiseSchedule,
        *,
        base_hash: str | None = None,
        budget: Budget | None = None,
    ):
        self.family, self.schedule, self.rows = family, schedule, Rows()
        self.tokens_per_chunk = text.tokens_per_chunk
        self._unet, self._text, self._autoencoder = unet.eval(), text, autoencoder
        self.budget = budget or Budget()
        unet.requires_grad_(False)
        self.device = next(unet.parameters()).device
        size = unet.config.sample_size
        self.latent_shape = (int(unet.config.in_channels), int(size), int(size))
        ldm = diffusers_to_ldm(unet.config)
        self._own_name = {f"diffusion_model.{name}": own for own, name in ldm.items()}
        self._parameters = dict(unet.named_parameters())
        self._recomputed = self._recompute() if self.budget.recompute else None
        kv = self.weights("xattn-kv")
        self.base_hash = tensors_hash(kv, torch.float16) if base_hash is None else base_hash

    def _recompute(self) -> Recomputed:
        """Makes diffusers recompute the UNet's transformer blocks and residual blocks in the backward."""
        named = self._unet.named_modules()
        recomputed = Recomputed({name: m for name, m in named if isinstance(m, BasicTransformerBlock)})
        self._unet.enable_gradient_checkpointing(recomputed.run)
        return recomputed

    @property
    def network(self) -> UNet2DConditionModel:
        """The UNet itself."""
        return self._unet

    def encode(self, prompts: Sequence[str]) -> Context:
        with torch.no_grad():
            return self._text.encode(prompts)

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        with torch.no_grad():
            return self._text.encode_start(prompts, n)

    def token_count(self, prompt: str) -> int:
        return self._text.token_count(prompt)

    def excess(self, prompt: str) -> int:
        """How many of a prompt's tokens the text encoder has no room for; `encode` leaves them out."""
        return self._text.excess(prompt)

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        return {key: self._parameters[own] for key, own in self._own_name.items() if tuned(key, tune)}

    def all_weights(self) -> Mapping[str, Tensor]:
        """Every parameter by canonical name."""
        return {key: self._parameters[own] for key, own in self._own_name.items()}

    def file_names(self) -> Mapping[str, str]:
        """kohya names modules as diffusers does for SD1.x and SD2.x, and as LDM does for SDXL."""
        names = {}
        for key, own in self._own_name.items():
            module = key.rpartition(".")[0]
            said = module.removeprefix("diffusion_model.") if self.family == "sdxl" else own.rpartition(".")[0]
            names[module] = "lora_unet_" + said.replace(".", "_")
        return names

    def predict(self, z_t: Tensor, t: Tensor, context: Context, edit: Edit | None = None) -> Tensor:
        """The network's native output, float32. Without gradient, rows beyond the budget's are taken in turn."""
        with_gradient, most = torch.is_grad_enabled(), self.budget.rows_at_once
        if not with_gradient and most is not None and len(t) > most:
            parts = torch.arange(len(t), device=t.device).split(most)
            return torch.cat([self.predict(z_t[i], t[i], context[i], edit) for i in parts])
        self.rows.add(len(t))
        if with_gradient or self.budget.release_text_early:
            self._text.release()
        tokens, changed = context.tokens, {}
        gain = fp16_gain(z_t) if with_gradient and self._unet.dtype == torch.float16 else 1.0
        if edit is not None:
            tokens = edit.tokens(tokens)
            own = {self._own_name[key]: key for key in edit.keys}
            changed = {name: partial(edited, edit, key, self._parameters[name], gain) for name, key in own.items()}
        out = self._forward(z_t, t, context.with_tokens(scaled(tokens, 1 / gain)), changed)
        return scaled(out.float(), gain)

    def _forward(self, z_t: Tensor, t: Tensor, context: Context, changed: Mapping[str, Callable[[], Tensor]]) -> Tensor:
        dtype, recomputed = self._unet.dtype, self._recomputed
        added = None
        if context.pooled is not None:
            added = {"text_embeds": context.pooled.to(dtype), "time_ids": context.size_ids}
        words: dict[str, Any] = {"encoder_hidden_states": context.tokens.to(dtype), "added_cond_kwargs": added}
        words["return_dict"] = False
        inner = changed if recomputed is not None and torch.is_grad_enabled() else {}
        inner = {own: make for own, make in inner.items() if recomputed and own in recomputed.inside}
        outer = {own: make() for own, make in changed.items() if own not in inner}
        with recomputed.under(inner) if recomputed else nullcontext():
            out: Tensor = functional_call(self._unet, outer, (z_t.to(dtype), t), words)[0]
        return out

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
