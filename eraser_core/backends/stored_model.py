"""A model on disk: what is known of it before it is read, and reading it into a denoiser as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from ..denoiser import Prediction
from ..errors import RequestError
from ..files import tensors_hash
from ..precision import DTYPES
from .clip_tokens import ClipTokens
from .diffusers import Budget, DiffusersDenoiser
from .ldm_keys import diffusers_to_ldm
from .modules import filled
from .prediction import Said
from .spelled import SpelledDenoiser, SpelledText
from .tensor_files import TensorFiles
from .text_encoders import Encoder

Memory = Literal["normal", "low"]
SCALE = 8  # pixels a latent pixel
# What the families were trained at; SD2.x's v-models at 768.
PIXELS = {"sd1": 512, "sd2": 512, "sdxl": 1024}
SD2_V_PIXELS = 768
BUDGETS = {"normal": Budget(rows_at_once=8), "low": Budget(rows_at_once=1, recompute=True, release_text_early=True)}


@dataclass(frozen=True)
class Loading:
    """How a model is read. None leaves a choice to the file.

    `compute` is the precision that its weights are held and computed in ("auto": fp32 on a CPU, else the file's own);
    `memory` is the preset; `size` the side of the pictures in pixels; `tokenizer` a folder to take instead of the
    shipped vocabulary.
    """

    device: str = "cpu"
    compute: str = "auto"
    memory: Memory = "normal"
    prediction: Prediction | None = None
    zero_snr: bool | None = None
    size: int | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True)
class StoredModel:
    """A model's facts, and how to read its parts.

    `names` maps diffusers' names of the UNet's parameters to those in `files`. `read_text` takes (device, dtype,
    (height, width)), `read_autoencoder` a device.
    """

    place: str
    family: str
    unet: Mapping[str, Any]
    names: Mapping[str, str]
    files: TensorFiles
    said: Said
    tokens: ClipTokens
    read_text: Callable[[str, torch.dtype | None, tuple[int, int]], Encoder]
    read_autoencoder: Callable[[str], AutoencoderKL]
    pixels: int

    def base_hash(self) -> str:
        """The identity of the base model, of the numbers in the file whatever it is computed in."""
        ldm = diffusers_to_ldm(self.unet)
        kv = {own: name for own, name in self.names.items() if ".attn2.to_k." in own or ".attn2.to_v." in own}
        named = {f"diffusion_model.{ldm[own]}": name for own, name in kv.items()}
        return tensors_hash({key: self.files.tensor(name) for key, name in named.items()}, torch.float16)

    def precisions(self) -> dict[torch.dtype, int]:
        """How many of the UNet's numbers are stored in which precision, most first."""
        count: dict[torch.dtype, int] = {}
        for name in self.names.values():
            dtype = self.files.dtype(name)
            count[dtype] = count.get(dtype, 0) + torch.Size(self.files.shapes[name]).numel()
        return dict(sorted(count.items(), key=lambda item: -item[1]))


def compute_dtype(stored: torch.dtype, loading: Loading) -> torch.dtype:
    """What the UNet is held and computed in."""
    if loading.compute != "auto":
        return DTYPES[loading.compute]
    if loading.device.startswith("cpu") or stored == torch.float64:
        return torch.float32
    if loading.memory == "low" and stored == torch.float32:
        return torch.bfloat16
    return stored


def latent_side(model: StoredModel, size: int | None) -> int:
    """The latents' side for pictures of `size` pixels; RequestError for sizes that the UNet cannot halve."""
    size = model.pixels if size is None else size
    halvings = len(model.unet["block_out_channels"]) - 1
    step = SCALE * 2**halvings
    if size < step or size % step:
        raise RequestError(f"pictures of {size} pixels do not fit this model: give a multiple of {step} with --size")
    return size // SCALE


def read(model: StoredModel, loading: Loading) -> DiffusersDenoiser:
    """The model as a denoiser: its UNet in memory, the text encoders and the autoencoder when they are needed."""
    side, dtype = latent_side(model, loading.size), compute_dtype(next(iter(model.precisions())), loading)
    schedule = model.said.schedule()
    config = {**model.unet, "sample_size": side}
    unet = filled(
        lambda: UNet2DConditionModel(**config),
        lambda own: model.files.tensor(model.names[own]),
        loading.device,
        dtype,
    )
    pixels = (side * SCALE, side * SCALE)
    text_dtype = torch.float32 if loading.device.startswith("cpu") else None
    text = SpelledText(model.tokens, lambda: model.read_text(loading.device, text_dtype, pixels))
    return SpelledDenoiser(
        model.family,
        unet,
        text,
        lambda: model.read_autoencoder(loading.device),
        schedule,
        base_hash=model.base_hash(),
        budget=BUDGETS[loading.memory],
    )
