"""CLIP text encoders of the three families: read when a prompt is new, let go of when the network needs the memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..denoiser import Context
from .clip_tokens import LENGTH, ClipTokens
from .modules import filled
from .tensor_files import TensorFiles

AT_ONCE = 16
HEAD_WIDTH = 64  # of every CLIP text encoder in use
OPEN_CLIP_PAD = 0


class Encoder(Protocol):
    """What turns the first n tokens of prompts into a context while it is in memory; `pooled` is right for all of them only."""

    def __call__(self, tokens: ClipTokens, prompts: Sequence[str], n: int = LENGTH) -> Context: ...

    @property
    def words(self) -> Sequence[nn.Embedding]:
        """The words' embeddings [words, d] of each text encoder."""

    def ids(self, tokens: ClipTokens, prompts: Sequence[str]) -> list[Tensor]:
        """[len(prompts), 77] for each text encoder, on its device: they are padded in other ways."""


class StoredText:
    """Prompts to contexts. Every prompt is encoded once; `release` drops the encoders, the next new prompt reads them again."""

    tokens_per_chunk = LENGTH

    def __init__(self, tokens: ClipTokens, read: Callable[[], Encoder]):
        self._tokens, self._read = tokens, read
        self._encoder: Encoder | None = None
        self._known: dict[str, Context] = {}

    def encode(self, prompts: Sequence[str]) -> Context:
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        for i in range(0, len(new), AT_ONCE):
            part = new[i : i + AT_ONCE]
            found = self._ready()(self._tokens, part)
            self._known |= {prompt: found[k : k + 1] for k, prompt in enumerate(part)}
        return Context.cat([self._known[prompt] for prompt in prompts])

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        parts = [prompts[i : i + AT_ONCE] for i in range(0, len(prompts), AT_ONCE)]
        return torch.cat([self._ready()(self._tokens, part, n).tokens for part in parts])

    def _ready(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._read()
        return self._encoder

    def token_count(self, prompt: str) -> int:
        return self._tokens.count(prompt)

    def excess(self, prompt: str) -> int:
        return self._tokens.excess(prompt)

    def release(self) -> None:
        self._encoder = None


class OneEncoder:
    """SD1.x (CLIP-L) and SD2.x (OpenCLIP-H, cut to its last but one layer): the final layer norm's output."""

    def __init__(self, model: CLIPTextModel, pad: int):
        self._model, self._pad = model, pad
        self.words = (model.get_input_embeddings(),)

    def ids(self, tokens: ClipTokens, prompts: Sequence[str]) -> list[Tensor]:
        return [tokens.ids(prompts, self._pad).to(self._model.device)]

    def __call__(self, tokens: ClipTokens, prompts: Sequence[str], n: int = LENGTH) -> Context:
        (ids,) = self.ids(tokens, prompts)
        return Context(self._model(input_ids=ids[:, :n]).last_hidden_state.float())


class TwoEncoders:
    """SDXL: CLIP-L's and OpenCLIP-bigG's last but one layer side by side, bigG's projected embedding as the pooled one.

    `pixels` (height, width) is what the size ids say: original and target size alike, nothing cropped.
    """

    def __init__(self, first: CLIPTextModel, second: CLIPTextModelWithProjection, pixels: tuple[int, int]):
        self._first, self._second, self._pixels = first, second, pixels
        self.words = (first.get_input_embeddings(), second.get_input_embeddings())

    def ids(self, tokens: ClipTokens, prompts: Sequence[str]) -> list[Tensor]:
        return [tokens.ids(prompts, pad).to(self._first.device) for pad in (tokens.end, OPEN_CLIP_PAD)]

    def __call__(self, tokens: ClipTokens, prompts: Sequence[str], n: int = LENGTH) -> Context:
        device, (first, second) = self._first.device, self.ids(tokens, prompts)
        one = self._first(input_ids=first[:, :n], output_hidden_states=True)
        two = self._second(input_ids=second[:, :n], output_hidden_states=True)
        words = torch.cat([one.hidden_states[-2].float(), two.hidden_states[-2].float()], -1)
        height, width = self._pixels
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=device)
        return Context(words, two.text_embeds.float(), sizes.expand(len(words), -1))


def clip_in_checkpoint(files: TensorFiles, prefix: str, device: str, dtype: torch.dtype | None) -> CLIPTextModel:
    """A text encoder in Hugging Face's names, as SD1.x and SDXL's first one are stored."""
    inside = prefix + "text_model."
    if not any(name.startswith(inside) for name in files.shapes):
        inside = prefix  # a few old files leave it out
    shapes = {name.removeprefix(inside): shape for name, shape in files.shapes.items() if name.startswith(inside)}
    layers = 1 + max(int(n.split(".")[2]) for n in shapes if n.startswith("encoder.layers."))
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    config = CLIPTextConfig(
        **_sizes(vocabulary, width, shapes["encoder.layers.0.mlp.fc1.weight"][0], layers), hidden_act="quick_gelu"
    )

    def tensor(own: str) -> Tensor:
        return files.tensor(inside + own.removeprefix("text_model."))

    return filled(lambda: CLIPTextModel(config), tensor, device, dtype)


def open_clip_in_checkpoint(
    files: TensorFiles, prefix: str, device: str, dtype: torch.dtype | None, last_but_one: bool
) -> Any:
    """A text encoder in OpenCLIP's names: SD2.x's without its last layer, or SDXL's second with its projection."""
    blocks = prefix + "transformer.resblocks."
    layers = 1 + max(int(n.removeprefix(blocks).split(".")[0]) for n in files.shapes if n.startswith(blocks))
    vocabulary, width = files.shapes[prefix + "token_embedding.weight"]
    inner = files.shapes[f"{blocks}0.mlp.c_fc.weight"][0]
    sizes = _sizes(vocabulary, width, inner, layers - 1 if last_but_one else layers)
    projection = width if last_but_one else files.shapes[prefix + "text_projection"][1]
    config = CLIPTextConfig(**sizes, hidden_act="gelu", projection_dim=projection)
    kind = CLIPTextModel if last_but_one else CLIPTextModelWithProjection
    return filled(lambda: kind(config), lambda own: open_clip_tensor(files, prefix, own, width), device, dtype)


def _sizes(vocabulary: int, width: int, inner: int, layers: int) -> Mapping[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "max_position_embeddings": LENGTH,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


_OUTER = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_LAYER |= {"self_attn.out_proj": "attn.out_proj"}
_JOINED = ("q", "k", "v")


def open_clip_tensor(files: TensorFiles, prefix: str, own: str, width: int) -> Tensor:
    """The tensor for one of transformers' parameter names: OpenCLIP keeps q, k and v in one matrix, and its projection
    the other way round."""
    name = own.removeprefix("text_model.")
    if name == "text_projection.weight":
        return files.tensor(prefix + "text_projection").T.contiguous()
    if name in _OUTER:
        return files.tensor(prefix + _OUTER[name])
    number, _, rest = name.removeprefix("encoder.layers.").partition(".")
    block = f"{prefix}transformer.resblocks.{number}."
    module, _, kind = rest.rpartition(".")
    if module in _LAYER:
        return files.tensor(f"{block}{_LAYER[module]}.{kind}")
    part = _JOINED.index(module.removeprefix("self_attn.")[0])
    return files.tensor(f"{block}attn.in_proj_{kind}")[part * width : (part + 1) * width]
