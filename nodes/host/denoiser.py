"""The MODEL and CLIP of a user's graph as the engine's `Denoiser`.

The network is called in its native prediction. Of a flow-matching model z_t is the host's own x. Of the others z_t of the
engine's variance-preserving process is what the host's own sampling feeds the UNet after it has scaled its x by
1 / sqrt(sigma^2 + 1). So nothing is converted, and no digits are lost at small noise. Edits are put in for one forward by
`functional_call`: the user's weights are never written to, and no host version's rules on weight wrappers apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from textwrap import shorten
from typing import Any, Literal

import comfy.model_management as memory
import torch
from torch import Tensor, nn
from torch.func import functional_call

from eraser_core.backends.half_precision import edited, fp16_gain, scaled
from eraser_core.backends.recompute import Recomputed
from eraser_core.denoiser import Context, Edit, Rows, Tune, tuned
from eraser_core.errors import ModelError, RequestError

from . import model as host_model
from . import recompute as host_recompute
from .loading import Compute, compute_dtype, latent_size, static_clone
from .schema import EMPTY
from .text_places import unweighted

MEMORY_SHARE = 0.7  # of the free memory, for forwards without gradient
SHOWN = 60  # letters of a prompt in a message


class HostDenoiser:
    """One MODEL, frozen as it stands: LoRAs already on it belong to the teacher.

    Make and use it under `torch.inference_mode(False)`. `width` and `height` are in pixels.
    """

    transformers = False  # whether it takes them
    appends = True  # whether a hidden prompt can stand behind a text

    def __init__(self, model: Any, clip: Any, width: int, height: int, compute: Compute = "auto"):
        if clip is None:
            raise RequestError(EMPTY["CLIP"])
        self.family = host_model.family(model)
        if not self.transformers and self.family in host_model.TRANSFORMERS:
            raise ModelError(
                f"this node does not take transformers yet, and this MODEL is one ({self.family}): erase from it with Train "
                "Concept Eraser or Erase Concepts (closed form)"
            )
        own = host_model.weights(model)
        self.base_hash = host_model.base_hash(own)
        self.schedule = host_model.schedule(model)
        self.device: torch.device = model.load_device
        self.rows = Rows()
        self.memory_needed = 0.0  # bytes beside the model, for the host to keep free
        self.on_forward: Callable[[Rows], None] | None = None
        self.rows_at_once = 1  # without gradient; known once it is loaded
        self.recompute = False
        self._names = host_model.file_names(model, own)
        self._context_width = host_model.text_width(own)
        channels = int(model.model.latent_format.latent_channels)
        self.pixels = host_model.pixels(model)
        self.latent_shape = (
            *(channels, latent_size("height", height, self.pixels)),
            latent_size("width", width, self.pixels),
        )
        self._text_norm = host_model.text_norm(model)
        self._size_ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32)
        self._compute = compute
        self._clip = clip
        self.tokens_per_chunk = len(self._sections("")[0])
        self._texts: dict[str, Context] = {}
        self._model = model
        self._own_dtype = host_model.dtype(own)
        self.compute_dtype = compute_dtype(compute, self._own_dtype, self.device, False)
        self._parameters: dict[str, Tensor] = {}
        self._computed: dict[str, Tensor] = {}
        self._blocks: Recomputed | None = None

    @cached_property
    def _patcher(self) -> Any:
        """What runs: made when the UNet is first needed, for on some hosts it costs a copy."""
        return static_clone(self._model)

    @property
    def reader(self) -> HostDenoiser:
        """What choosing anchors and reading words goes through."""
        return self

    @property
    def network(self) -> nn.Module:
        """The UNet that runs, for whoever listens to its layers."""
        network: nn.Module = self._patcher.model.diffusion_model
        return network

    def encode(self, prompts: Sequence[str]) -> Context:
        """Contexts [len(prompts), n, d]; RequestError for a prompt of more than one chunk, or one with unknown words."""
        for prompt in prompts:
            if prompt not in self._texts:
                self._texts[prompt] = self._encode(prompt)
        return Context.cat([self._texts[prompt] for prompt in prompts])

    def forget(self, prompts: Sequence[str]) -> None:
        """Let go of these prompts' contexts."""
        for prompt in prompts:
            self._texts.pop(prompt, None)

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        """The first n tokens [len(prompts), n, d]: the host encodes whole chunks only."""
        return self.encode(prompts).tokens[:, :n]

    def _encode(self, prompt: str) -> Context:
        if len(self._sections(prompt)) > 1:
            raise RequestError(
                f"the prompt {shorten(prompt, SHOWN)!r} has more words than fit into one chunk of {len(self._sections('')[0])} "
                "tokens: shorten it"
            )
        unknown: list[str] = getattr(self._tokenizer(), "unknown_words", lambda text: [])(prompt)
        if unknown:
            from eraser_core.pocket.concepts import load_concepts

            raise RequestError(
                f"the pocket model does not know the word {unknown[0]!r} (in {shorten(prompt, SHOWN)!r}): its help page lists "
                f"what it draws{load_concepts().near(unknown[0])}"
            )
        memory.throw_exception_if_processing_interrupted()
        self.release()  # the host may move the UNet out for the text encoder
        with torch.inference_mode():
            tokens = self._clip.tokenize(prompt, **unweighted(self._clip))
            found = self._clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
        return self._taken(found)

    def _taken(self, found: Mapping[str, Any]) -> Context:
        """What the host's text encoder gave, by its words, as a context."""
        return self.context(found["cond"], found["pooled_output"])

    def context(self, tokens: Tensor, pooled: Tensor | None) -> Context:
        """A text as the host encoded it, tokens [b, n, d] and pooled [b, p], as an engine's context of this MODEL.

        RequestError when it was encoded for another kind of model.
        """
        if tokens.shape[-1] != self._context_width:
            raise RequestError(
                f"this CLIP gives {tokens.shape[-1]} numbers a token, the MODEL reads {self._context_width}: "
                "connect the CLIP of the same checkpoint"
            )
        tokens = tokens.clone().to(self.device, torch.float32)
        if self.family in host_model.TRANSFORMERS or not self._model.model.adm_channels:
            return Context(tokens)
        if pooled is None:
            raise RequestError(
                "this conditioning lacks the pooled text that SDXL reads: encode the text with CLIP Text Encode"
            )
        sizes = self._size_ids.to(self.device).expand(len(tokens), -1)
        return Context(tokens, pooled.clone().to(self.device, torch.float32), sizes)

    def as_read(self, tokens: Tensor) -> Tensor:
        if self._text_norm is None:
            return tokens
        norm, eps = self._text_norm
        return torch.nn.functional.rms_norm(tokens, norm.shape, norm.clone().to(tokens), eps)

    def token_count(self, prompt: str) -> int:
        return 1 + sum(1 for _, _, word in self._sections(prompt, words=True)[0] if word != 0)

    def _sections(self, prompt: str, words: bool = False) -> list[list[Any]]:
        """The prompt's chunks of tokens, by the first of the CLIP's tokenizers."""
        chunks = self._clip.tokenize(prompt, return_word_ids=words, **unweighted(self._clip))
        return list(next(iter(chunks.values())))

    def _tokenizer(self) -> Any:
        names = [name for name in vars(self._clip.tokenizer) if name.startswith("clip_") and name != "clip_name"]
        return getattr(self._clip.tokenizer, names[0]) if names else None

    def use(self, memory_preset: Literal["normal", "low"]) -> None:
        """How memory is traded for time from the next forward on.

        With "low" the backward computes activations again, and an fp16 UNet computes in fp16 without a converted copy.
        """
        self.recompute = memory_preset == "low"
        self.compute_dtype = compute_dtype(self._compute, self._own_dtype, self.device, self.recompute)
        self.release()

    def load(self) -> dict[str, Tensor]:
        """The UNet's parameters, patched and on the device, as ordinary tensors that autograd accepts.

        RequestError when the host cannot hold the whole UNet there.
        """
        if self._parameters:
            return self._parameters
        memory.load_models_gpu([self._patcher], memory_required=self.memory_needed, force_full_load=True)
        if getattr(self._patcher.model, "model_lowvram", False):
            raise RequestError(
                "there is not enough memory to hold the whole network while training: close other programs, load it in fp8 where it "
                "is a transformer, or use a smaller model, width, height or batch"
            )
        unet = self._patcher.model.diffusion_model
        for module in unet.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                # a loader's tensors, which autograd refuses: the same values again, no lasting memory
                if parameter.is_inference():
                    module._parameters[name] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
        unet.requires_grad_(False)
        self._parameters = {host_model.PREFIX + name: p for name, p in unet.named_parameters()}
        # one converted copy: the host would convert in every forward, and autograd would keep each of those
        self._computed = {name: self._converted(p.detach()) for name, p in self._parameters.items()}
        self._blocks = host_recompute.blocks(unet)
        row = self._patcher.memory_required([1, *self.latent_shape])
        self.rows_at_once = max(1, int(MEMORY_SHARE * memory.get_free_memory(self.device) / row))
        return self._parameters

    def _converted(self, weight: Tensor) -> Tensor:
        return weight.to(self.compute_dtype)

    def all_weights(self) -> Mapping[str, Tensor]:
        """Every parameter of the UNet by canonical name."""
        return self.load()

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        return {key: weight for key, weight in self.load().items() if tuned(key, tune)}

    def frozen(self) -> list[Tensor]:
        """Every tensor that the forwards take weights from."""
        return [*self.load().values(), *self._computed.values()]

    @contextmanager
    def stood_in_for(self, make: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Forwards take `make(weight)` in place of each weight: tensors that have sizes only, for one."""
        before = self._parameters, self._computed
        self._parameters, self._computed = ({name: make(w) for name, w in part.items()} for part in before)
        try:
            yield
        finally:
            self._parameters, self._computed = before

    def file_names(self) -> Mapping[str, str]:
        return self._names

    def predict(self, z_t: Tensor, t: Tensor, context: Context, edit: Edit | None = None) -> Tensor:
        """The network's native output, float32. Raises the host's own interruption when the user cancels.

        Without gradient, rows that do not fit into memory at once are taken in turn.
        """
        self.load()
        if not torch.is_grad_enabled() and len(t) > self.rows_at_once:
            parts = torch.arange(len(t), device=t.device).split(self.rows_at_once)
            return torch.cat([self.predict(z_t[i], t[i], context[i], edit) for i in parts])
        memory.throw_exception_if_processing_interrupted()
        self.rows.add(len(t))
        if self.on_forward is not None:
            self.on_forward(self.rows)
        gain = fp16_gain(z_t) if torch.is_grad_enabled() and self.compute_dtype == torch.float16 else 1.0
        tokens, changed = context.tokens, {}
        if edit is not None:
            tokens = edit.tokens(tokens)
            changed = {_own(k): partial(self._edited, edit, k, gain) for k in edit.keys}
        options = self._patcher.model_options["transformer_options"].copy()
        options |= {"cond_or_uncond": [0], "sigmas": self._sigmas(t)}
        if torch.is_grad_enabled():
            options.setdefault("optimized_attention_override", host_recompute.differentiable_attention)
        args, words = self._called(z_t, t, context.with_tokens(scaled(tokens, 1 / gain)))
        words["transformer_options"] = options
        return scaled(self._out(self._forward(args, words, changed)).float(), gain)

    def _edited(self, edit: Edit, key: str, gain: float) -> Tensor:
        weight = self._computed[key]
        return edited(edit, key, weight.to(self.compute_dtype) if weight.dtype in host_model.FP8 else weight, gain)

    def _called(self, z_t: Tensor, t: Tensor, context: Context) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
        """What the network is called with, by position and by name."""
        words: dict[str, Any] = {"context": context.tokens.to(self.compute_dtype)}
        if context.pooled is not None and context.size_ids is not None:
            words["y"] = self._vector(context.pooled, context.size_ids).to(self.compute_dtype)
        time = t.float()
        if self.schedule.prediction == "flow":
            words["num_tokens"] = context.tokens.shape[1]
            time = self._flow_time(z_t, t)
        return (z_t.to(self.compute_dtype), time), words

    def _flow_time(self, z_t: Tensor, t: Tensor) -> Tensor:
        """The time that a flow-matching network is told."""
        sigma = self.schedule.levels(t)[1].to(z_t.device, torch.float32)
        time: Tensor = self._model.get_model_object("model_sampling").timestep(sigma)
        return time

    def _out(self, out: Tensor) -> Tensor:
        """The native prediction [b, c, h, w]."""
        return out

    def _forward(
        self, args: tuple[Tensor, Tensor], words: dict[str, Any], changed: Mapping[str, Callable[[], Tensor]]
    ) -> Tensor:
        unet, blocks = self._patcher.model.diffusion_model, self._blocks
        weights = {_own(key): weight for key, weight in self._computed.items()}
        gradient = torch.is_grad_enabled()
        if blocks is None or not self.recompute or not gradient:
            with host_recompute.differentiable() if gradient else nullcontext():
                out: Tensor = functional_call(
                    unet, weights | {name: make() for name, make in changed.items()}, args, words
                )
            return out
        inner = {name: make for name, make in changed.items() if name in blocks.inside}
        outer = weights | {name: make() for name, make in changed.items() if name not in inner}
        with blocks.under(inner, weights), host_recompute.rerouted(unet, blocks.run), host_recompute.differentiable():
            out = functional_call(unet, outer, args, words)
        return out

    def _vector(self, pooled: Tensor, sizes: Tensor) -> Tensor:
        """SDXL's y [b, p + 6 * 256]: the pooled text and the size ids as the host embeds them."""
        embedded = self._patcher.model.embedder(sizes.float().flatten()).view(len(sizes), -1)
        return torch.cat([pooled, embedded.to(pooled)], 1)

    def _sigmas(self, t: Tensor) -> Tensor:
        a, s = self.schedule.signal_and_noise(t)
        return (s if self.schedule.prediction == "flow" else s / a).flatten()

    def latents_for_vae(self, latents: Tensor) -> Tensor:
        """Latents of the model's scale in the scale that VAEDecode takes."""
        out: Tensor = self._model.model.process_latent_out(latents)
        return out

    def release(self) -> None:
        """Say that the host may have moved the UNet: the next forward asks for it again."""
        self._parameters, self._computed = {}, {}


def _own(key: str) -> str:
    return key.removeprefix(host_model.PREFIX)
