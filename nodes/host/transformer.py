"""A MODEL that is a transformer as the engine's `Denoiser`: Flux, Z-Image, Stable Diffusion 3 and the others of the host's.

What such a network is called with differs between families, and the host's own class says it (`extra_conds`). So nothing of that is
written here again, and a prompt reaches the network as it does when the host draws. Texts have lengths of their own. Rows
are taken through the network one length at a time, so that no text sees what another is filled up with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from comfy.model_base import BaseModel
from torch import Tensor

from eraser_core.denoiser import Context, Edit, Tune
from eraser_core.errors import ModelError, RequestError
from eraser_core.text_layers import reads_pooled
from eraser_core.text_readers import TextReader, places

from . import model as host_model
from .denoiser import HostDenoiser
from .loading import Compute
from .unloaded import UnloadedDenoiser

IDS, WEIGHTS = "t5xxl_ids", "t5xxl_weights"  # Anima's second tokens, by the host's words
ANIMA_LENGTH, ADAPTER = 512, "llm_adapter"


def denoiser_for(model: Any, clip: Any, width: int, height: int, compute: Compute = "auto") -> HostDenoiser:
    """Any MODEL that can be trained on, with its CLIP."""
    kind = TransformerDenoiser if host_model.family(model) in host_model.TRANSFORMERS else HostDenoiser
    return kind(model, clip, width, height, compute)


class TransformerDenoiser(HostDenoiser):
    """One transformer, frozen as it stands. `encode` gives what the host's text encoder gives; for Anima what its adapter makes of that."""

    transformers = True

    def __init__(self, model: Any, clip: Any, width: int, height: int, compute: Compute = "auto"):
        super().__init__(model, clip, width, height, compute)
        own = host_model.weights(model)
        host_model.check_trainable(model, own, host_model.FP8)
        _check_class(model)
        self._reads_pooled = any(reads_pooled(key) for key in own)
        self._deep = model.model.latent_format.latent_dimensions == 3  # video models draw one frame
        self._first = host_model.first_network(model)
        self.appends = self.family != host_model.ANIMA  # whose adapter makes its tokens anew
        self.tokens_per_chunk = 0

    @cached_property
    def reader(self) -> UnloadedDenoiser:
        """The same MODEL and CLIP for whatever reads texts alone."""
        return UnloadedDenoiser(self._model, self._clip)

    def places(self) -> Sequence[TextReader]:
        """What a closed form looks at. The host may move the network out for the text encoder."""
        self.release()
        return places(self.reader)

    def _taken(self, found: Mapping[str, Any]) -> Context:
        context = self.context(found["cond"], found["pooled_output"])
        if self.family == host_model.ANIMA:
            return _whole(self._adapted(context.tokens, found), None)
        mask = found.get("attention_mask")
        if mask is None or "attention_mask" not in self._conds(context, mask):
            return context
        there = mask[0].bool().to(self.device)  # the network would be told to leave the others out
        return _whole(context.tokens[:, there], context.pooled)

    def _adapted(self, tokens: Tensor, found: Mapping[str, Any]) -> Tensor:
        """What Anima makes of its two kinds of tokens before its blocks read them, as long as those are told to expect."""
        if self._first is None or IDS not in found:
            raise RequestError(
                "this CLIP gives no T5 tokens, and Anima makes of them what it reads: connect the CLIP of the Anima checkpoint"
            )
        with torch.no_grad():
            adapted = self._first(tokens.cpu(), found[IDS][None].clone()) * found[WEIGHTS][None, :, None]
        return F.pad(adapted, (0, 0, 0, max(ANIMA_LENGTH - adapted.shape[1], 0))).to(tokens)

    def context(self, tokens: Tensor, pooled: Tensor | None) -> Context:
        """See the parent; with a mask, for texts have lengths of their own."""
        tokens = super().context(tokens, None).tokens
        if pooled is None and self._reads_pooled:
            raise RequestError(
                f"this conditioning lacks the pooled text that this MODEL ({self.family}) reads: connect the CLIP of the same kind"
            )
        vector = None if pooled is None else pooled.clone().to(self.device, torch.float32)
        return _whole(tokens, vector)

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        """See the parent; what reads the pooled text counts as reading the text, where a change is one of matrices."""
        found = {key: weight for key, weight in super().weights(tune).items() if self._in_a_file(key)}
        if tune in ("xattn-kv", "xattn"):
            return {**found, **{key: weight for key, weight in self.load().items() if reads_pooled(key)}}
        return {key: weight for key, weight in found.items() if tune != "noxattn" or not reads_pooled(key)}

    def _in_a_file(self, key: str) -> bool:
        """Whether LoRA loaders have a name for it, and it is no part of what makes Anima's context, which is made only once."""
        made = self.family == host_model.ANIMA and key.startswith(f"{host_model.PREFIX}{ADAPTER}.")
        return key.endswith((".weight", ".bias")) and not made

    def as_read(self, tokens: Tensor) -> Tensor:
        if self._first is None or self.family == host_model.ANIMA:  # whose tokens are read already
            return super().as_read(tokens)
        return self._first(tokens.cpu()).to(tokens)

    def _converted(self, weight: Tensor) -> Tensor:
        """In the dtype that is computed in, but for what the host itself keeps in fp32 beside narrower weights.

        Where memory is short the host widens fp8 layer by layer, as when it draws: where it does not multiply in fp8.
        """
        kept = weight.dtype == torch.float32 != self._own_dtype
        narrow = self.recompute and weight.dtype in host_model.FP8 and not self._multiplies_in_fp8
        return weight if kept or narrow else super()._converted(weight)

    @cached_property
    def _multiplies_in_fp8(self) -> bool:
        return any("fp8_ops" in type(module).__qualname__ for module in self.network.modules())

    def predict(self, z_t: Tensor, t: Tensor, context: Context, edit: Edit | None = None) -> Tensor:
        """See the parent. Rows whose texts differ in length are taken in turn."""
        if context.mask is None:
            return super().predict(z_t, t, context, edit)
        lengths = context.mask.sum(1)
        out: dict[int, Tensor] = {}
        for n in lengths.unique().tolist():
            rows = (lengths == n).nonzero().flatten()
            part = context[rows]
            tokens = part.tokens[context.mask[rows]].view(len(rows), n, -1)
            of_n = super().predict(z_t[rows], t[rows], Context(tokens, part.pooled), edit)
            out |= dict(zip(rows.tolist(), of_n, strict=True))
        return torch.stack([out[row] for row in range(len(t))])

    def _called(self, z_t: Tensor, t: Tensor, context: Context) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
        x = z_t.unsqueeze(2) if self._deep else z_t
        conds = self._conds(context, None, x)
        words = {name: self._narrowed(cond.process_cond(len(t), area=None).cond) for name, cond in conds.items()}
        if "c_concat" in words:
            raise ModelError(
                f"this MODEL ({self.family}) draws into a given picture, and such models cannot be trained on: load the one that "
                "draws from text alone"
            )
        words["context"] = words.pop("c_crossattn")
        time = self._flow_time(z_t, t) if self.schedule.prediction == "flow" else t
        time = self._model.model.process_timestep(time.float(), x=x, **words)
        return (x.to(self.compute_dtype), time), words

    def _conds(self, context: Context, mask: Tensor | None, x: Tensor | None = None) -> dict[str, Any]:
        """What the host's class makes of a text."""
        side = torch.zeros(1, *self.latent_shape, device=self.device) if x is None else x
        height, width = (self.pixels * n for n in side.shape[-2:])
        given = {"cross_attn": context.tokens, "pooled_output": context.pooled, "noise": side, "device": self.device}
        if mask is not None:
            given["attention_mask"] = mask
        found: dict[str, Any] = self._model.model.extra_conds(**given, width=width, height=height)
        return found

    def _narrowed(self, cond: Any) -> Any:
        if not isinstance(cond, Tensor):
            return cond
        return cond.to(self.device, self.compute_dtype if cond.is_floating_point() else cond.dtype)

    def _out(self, out: Tensor) -> Tensor:
        return out.squeeze(2) if self._deep else out

    def latents_for_vae(self, latents: Tensor) -> Tensor:
        return super().latents_for_vae(latents.unsqueeze(2) if self._deep else latents)


def _check_class(model: Any) -> None:
    """ModelError for a class of the host's that is called in a way of its own (LongCat-Image, of Flux's architecture)."""
    if type(model.model)._apply_model is not BaseModel._apply_model:
        raise ModelError(
            f"this MODEL is of the kind {type(model.model).__name__}, which cannot be trained on: erase from it with Erase Concepts "
            "(closed form)"
        )


def _whole(tokens: Tensor, pooled: Tensor | None) -> Context:
    """A context of which all tokens are there."""
    return Context(tokens, pooled, mask=torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))
