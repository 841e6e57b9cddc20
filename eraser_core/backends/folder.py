"""Model folders in diffusers' layout, from the disk alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..errors import FileFormatError, ModelError
from .architecture import SUPPORTED
from .clip_tokens import folder_tokens
from .modules import filled
from .prediction import said_by_scheduler
from .stored_model import SCALE, Loading, StoredModel
from .tensor_files import TensorFiles
from .text_encoders import OPEN_CLIP_PAD, Encoder, OneEncoder, TwoEncoders

PARTS = ("unet", "text_encoder", "tokenizer", "vae", "scheduler")
CONFIGS = {"scheduler": "scheduler_config.json"}


def open_folder(path: Path, loading: Loading) -> StoredModel:
    """What a model folder holds; ModelError or FileFormatError says what is missing or wrong."""
    missing = [p for p in PARTS if not (path / p).is_dir() and not (p == "tokenizer" and loading.tokenizer)]
    if missing:
        raise ModelError(f"{path} is no diffusers model folder: it lacks {', '.join(missing)}")
    unet = part_config(path, "unet")
    family = _family(path, unet)
    files = weights(path / "unet")
    names = _own_names(path, unet, files)
    said = said_by_scheduler(part_config(path, "scheduler"), loading.prediction, loading.zero_snr, str(path))
    tokens = folder_tokens(loading.tokenizer or path / "tokenizer")

    def read_text(device: str, dtype: torch.dtype | None, pixels: tuple[int, int]) -> Encoder:
        first = text_encoder(path, "text_encoder", CLIPTextModel, device, dtype)
        if family == "sdxl":
            second = text_encoder(path, "text_encoder_2", CLIPTextModelWithProjection, device, dtype)
            return TwoEncoders(first, second, pixels)
        return OneEncoder(first, tokens.end if family == "sd1" else OPEN_CLIP_PAD)

    return StoredModel(
        str(path),
        family,
        unet,
        names,
        files,
        said,
        tokens,
        read_text,
        lambda device: autoencoder(path, device),
        int(unet.get("sample_size") or 64) * SCALE,
    )


def _family(path: Path, unet: dict[str, Any]) -> str:
    if unet.get("in_channels", 4) != 4:
        raise ModelError(f"{path} reads {unet['in_channels']} channels, as inpainting models do: {SUPPORTED}")
    if unet.get("addition_embed_type") == "text_time":
        if not (path / "text_encoder_2").is_dir():
            raise ModelError(f"{path} is an SDXL folder without its text_encoder_2: fetch it")
        return "sdxl"
    if unet.get("addition_embed_type") or unet.get("class_embed_type"):
        raise ModelError(f"{path} is conditioned by more than text: {SUPPORTED}")
    # OpenCLIP's encoder in SD2.x has another activation than CLIP-L in SD1.x
    return "sd1" if part_config(path, "text_encoder").get("hidden_act", "quick_gelu") == "quick_gelu" else "sd2"


def _own_names(path: Path, unet: dict[str, Any], files: TensorFiles) -> dict[str, str]:
    """diffusers' names onto themselves, once every one of them is known to be there."""
    with torch.device("meta"):
        names = [name for name, _ in UNet2DConditionModel(**unet).named_parameters()]
    missing = [name for name in names if name not in files]
    if missing:
        raise ModelError(f"{path / 'unet'} lacks {len(missing)} tensors, such as {missing[0]}: fetch it again")
    return {name: name for name in names}


def part_config(path: Path, part: str) -> dict[str, Any]:
    """What a part says of itself, without the notes of whoever wrote it; ModelError where that cannot be read."""
    file = path / part / CONFIGS.get(part, "config.json")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error}): fetch it again") from error
    return {key: value for key, value in found.items() if not key.startswith("_")}


def weights(folder: Path) -> TensorFiles:
    """The safetensors files of one part: the plain ones, or where there are none, one variant's (NAME.fp16.safetensors)."""
    every = sorted(folder.glob("*.safetensors"))
    plain = [f for f in every if f.name.count(".") == 1]
    variants = sorted({f.suffixes[-2] for f in every if f.name.count(".") > 1})
    chosen = plain or [f for f in every if variants and f.suffixes[-2] == variants[0]]
    if not chosen:
        pickles = [f.name for f in folder.glob("*.bin")]
        hint = f" ({pickles[0]} is a pickle, which is never opened)" if pickles else ""
        raise FileFormatError(f"{folder} holds no safetensors weights{hint}: fetch the safetensors files")
    return TensorFiles(chosen)


def text_encoder(path: Path, part: str, kind: Callable[[Any], Any], device: str, dtype: torch.dtype | None) -> Any:
    """A text encoder, whichever way its names are written: transformers changed them."""
    files = weights(path / part)
    config = CLIPTextConfig(**part_config(path, part))

    def tensor(own: str) -> Tensor:
        other = own.removeprefix("text_model.") if own.startswith("text_model.") else f"text_model.{own}"
        return files.tensor(own if own in files or other not in files else other)

    return filled(lambda: kind(config), tensor, device, dtype)


def autoencoder(path: Path, device: str) -> AutoencoderKL:
    """The VAE in float32; old folders name its attention otherwise."""
    config, files = part_config(path, "vae"), weights(path / "vae")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def tensor(own: str) -> Tensor:
        if own not in files:
            for new, name in old.items():
                own = own.replace(f".{new}.", f".{name}.")
        return files.tensor(own)

    return filled(lambda: AutoencoderKL(**config), tensor, device, torch.float32)
