"""A folder of Flux.1 or another transformer in diffusers' layout: what it is, and the matrices that read its text.

    model_index.json    which pipeline reads a prompt, and of which parts
    transformer/        safetensors, of which a few matrices are read by name
    text_encoder*/, tokenizer*/

The rest of the transformer is never read. Names become ComfyUI's, by which an erasure is stored (docs/architecture.md, 4): those
of comfy/utils.py (`flux_to_diffusers`, `mmdit_to_diffusers`, `pixart_to_diffusers`) and of the conversion scripts of diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Prediction
from ..errors import ModelError
from .folder import weights
from .tensor_files import TensorFiles

PREFIX = "diffusion_model."
INDEX = "model_index.json"
SD3, PIXART, PIXART_SIGMA = "sd3", "pixart-alpha", "pixart-sigma"
FLUX_PIPELINES = ("FluxPipeline", "FluxFillPipeline", "FluxKontextPipeline")
WAN_PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")
_SIZES = (
    "adaln_single.emb.resolution_embedder.linear_1.weight"  # what ComfyUI tells PixArt-alpha by, in diffusers' name
)
_POOLED = "time_text_embed.text_embedder.linear_1.weight"


@dataclass(frozen=True)
class Family:
    """`name` is the nodes' (nodes/host/model.py), `said` its own. `pipelines` are diffusers' classes that read prompts alike.

    `tensors` maps canonical names without prefix to diffusers': the rows of several lie below each other. {} is a block's number.
    """

    name: str
    said: str
    pipelines: tuple[str, ...]
    tensors: Mapping[str, tuple[str, ...]]
    prediction: Prediction = "flow"


FAMILIES = (
    Family(
        "flux1",
        "Flux.1",
        FLUX_PIPELINES,
        {"txt_in.weight": ("context_embedder.weight",), "vector_in.in_layer.weight": (_POOLED,)},
    ),
    Family("flux2", "Flux.2 klein", ("Flux2KleinPipeline",), {"txt_in.weight": ("context_embedder.weight",)}),
    Family("chroma", "Chroma", ("ChromaPipeline",), {"txt_in.weight": ("context_embedder.weight",)}),
    Family(
        SD3,
        "Stable Diffusion 3",
        ("StableDiffusion3Pipeline",),
        {"context_embedder.weight": ("context_embedder.weight",), "y_embedder.mlp.0.weight": (_POOLED,)},
    ),
    Family(
        "qwen-image",
        "Qwen-Image",
        ("QwenImagePipeline",),
        {"txt_norm.weight": ("txt_norm.weight",), "txt_in.weight": ("txt_in.weight",)},
    ),
    Family(
        "z-image",
        "Z-Image",
        ("ZImagePipeline",),
        {f"cap_embedder.{i}.weight": (f"cap_embedder.{i}.weight",) for i in (0, 1)},
    ),
    Family(
        "lumina2",
        "Lumina 2",
        ("Lumina2Pipeline", "Lumina2Text2ImgPipeline"),
        {f"cap_embedder.{i}.weight": (f"time_caption_embed.caption_embedder.{i}.weight",) for i in (0, 1)},
    ),
    Family(
        PIXART,
        "PixArt",
        ("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
        {
            "blocks.{}.cross_attn.kv_linear.weight": (
                "transformer_blocks.{}.attn2.to_k.weight",
                "transformer_blocks.{}.attn2.to_v.weight",
            )
        },
        "epsilon",
    ),
    Family(
        "wan",
        "Wan",
        WAN_PIPELINES,
        {"text_embedding.0.weight": ("condition_embedder.text_embedder.linear_1.weight",)},
    ),
)
READABLE = "Flux.1, Flux.2 klein, Chroma, Stable Diffusion 3, Qwen-Image, Z-Image, Lumina 2, PixArt and Wan"
CLOSED_FORMS = "uce, time or dp"


class TransformerFolder:
    """A folder whose text can be read; ModelError or FileFormatError says what is missing."""

    def __init__(self, path: Path, family: Family, index: Mapping[str, Any]):
        self.path, self._row, self._index = path, family, index
        if path.joinpath("transformer_2").is_dir():
            raise ModelError(
                f"{path} holds two transformers, each with a matrix of its own that reads the text, and the command line erases "
                "from one: load them in ComfyUI and erase from both with Erase Concepts (closed form)"
            )
        self.said, self.prediction, self.pipeline = family.said, family.prediction, str(index["_class_name"])

    @cached_property
    def files(self) -> TensorFiles:
        """The transformer's tensors, opened by their headers."""
        return weights(self.path / "transformer")

    @property
    def family(self) -> str:
        """The nodes' name of the family. ComfyUI takes PixArt without size embeddings for PixArt-Sigma, whatever its text says."""
        return PIXART_SIGMA if self._row.name == PIXART and _SIZES not in self.files else self._row.name

    def matrices(self) -> dict[str, Tensor]:
        """By canonical name, float32, what reads text and the norm before it; ModelError for one that is not there."""
        found: dict[str, Tensor] = {}
        for key, parts in self._row.tensors.items():
            for number in self._blocks(parts[0]) if "{}" in key else [""]:
                rows = [self.tensor(part.replace("{}", number)) for part in parts]
                found[PREFIX + key.replace("{}", number)] = torch.cat(rows) if len(rows) > 1 else rows[0]
        return found

    def _blocks(self, name: str) -> list[str]:
        before, _, behind = name.partition("{}")
        named = [own for own in self.files.shapes if own.startswith(before) and own.endswith(behind)]
        if not named:
            raise ModelError(f"{self.files.place} lacks {name.replace('{}', '0')}: it is of another architecture")
        return [own.removeprefix(before).removesuffix(behind) for own in named]

    def tensor(self, name: str) -> Tensor:
        """One of the transformer's tensors in float32; ModelError where it is missing or quantised."""
        if name in self.files:
            self.files.dtype(name)  # says what is quantised
        return self.files.tensor(name).float()

    def part(self, name: str) -> Path:
        """The folder of one part; ModelError where it is not there."""
        found = self.path / name
        if not found.is_dir():
            raise ModelError(f"{self.path} lacks the folder {name}, with which {self.said} reads a prompt: fetch it")
        return found

    def has(self, name: str) -> bool:
        """Whether the pipeline has a part: some go without (`[null, null]`)."""
        said = self._index.get(name)
        return bool(said and said[0])


def transformer_folder(path: Path) -> TransformerFolder | None:
    """The folder of a transformer whose text can be read; None for other folders, such as those of a UNet.

    ModelError for a transformer that is not known here.
    """
    if not (path / "transformer").is_dir():
        return None
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} holds a transformer, and its {INDEX}, which says how it reads a prompt, cannot be read ({error}): fetch it"
        ) from error
    said = index.get("_class_name", "") if isinstance(index, dict) else ""
    row = next((row for row in FAMILIES if said in row.pipelines), None)
    if row is None:
        raise ModelError(
            f"{path} is made for {said or 'no pipeline that it names'}, whose prompts the command line cannot read. It reads those "
            f"of {READABLE}. Others may work in ComfyUI, with the node Erase Concepts (closed form)"
        )
    return TransformerFolder(path, row, index)


def refuse_to_draw(path: Path) -> None:
    """ModelError for a folder that can only be read, saying what works on it."""
    found = transformer_folder(path)
    if found is not None:
        raise ModelError(
            f"{path} is {found.said}, of which the command line reads the text alone: `erase` with --method {CLOSED_FORMS} works on "
            "it. To draw with it, or to look at an erasure, load both in ComfyUI"
        )
