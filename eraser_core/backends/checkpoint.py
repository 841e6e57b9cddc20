"""Single-file checkpoints as people download them: LDM names, safetensors, nothing fetched beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from ..errors import ModelError
from ..model_spec import SHIPPED
from .architecture import SD1_TEXT, SD2_TEXT, SDXL_TEXT, SDXL_TEXT_2, UNET, VAE, recognise
from .clip_tokens import folder_tokens, shipped_tokens
from .ldm_keys import diffusers_to_ldm
from .modules import filled
from .prediction import said_by_file
from .stored_model import PIXELS, SD2_V_PIXELS, Loading, StoredModel
from .tensor_files import TensorFiles
from .text_encoders import OPEN_CLIP_PAD, Encoder, OneEncoder, TwoEncoders, clip_in_checkpoint, open_clip_in_checkpoint

SCALING = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}


def pocket_name(files: TensorFiles) -> str | None:
    """What a pocket model's checkpoint, as it lies in ComfyUI's folder, is called here; None for any other file."""
    return SHIPPED.get(files.metadata.get("modelspec.architecture", ""))


def open_checkpoint(path: Path, loading: Loading) -> StoredModel:
    """What a checkpoint file is; ModelError or FileFormatError says what is wrong with it."""
    files = TensorFiles([path])
    if shipped := pocket_name(files):
        raise ModelError(f"{path} is a pocket model, which is opened by its name: --model {shipped}")
    found = recognise(files.shapes, str(path))
    said = said_by_file(files, found.family, loading.prediction, loading.zero_snr)
    names = {own: UNET + ldm for own, ldm in diffusers_to_ldm(found.unet).items()}
    for name in names.values():
        files.dtype(name)  # says so when one is quantised

    def read_text(device: str, dtype: torch.dtype | None, pixels: tuple[int, int]) -> Encoder:
        return _text(files, found.family, device, dtype, pixels)

    return StoredModel(
        str(path),
        found.family,
        found.unet,
        names,
        files,
        said,
        folder_tokens(loading.tokenizer) if loading.tokenizer else shipped_tokens(),
        read_text,
        lambda device: autoencoder(files, SCALING[found.family], device),
        SD2_V_PIXELS if found.family == "sd2" and said.prediction == "v_prediction" else PIXELS[found.family],
    )


def _text(files: TensorFiles, family: str, device: str, dtype: torch.dtype | None, pixels: tuple[int, int]) -> Encoder:
    try:
        if family == "sdxl":
            second = open_clip_in_checkpoint(files, SDXL_TEXT_2, device, dtype, last_but_one=False)
            return TwoEncoders(clip_in_checkpoint(files, SDXL_TEXT, device, dtype), second, pixels)
        if family == "sd2":
            text = open_clip_in_checkpoint(files, SD2_TEXT, device, dtype, last_but_one=True)
            return OneEncoder(text, OPEN_CLIP_PAD)
        text = clip_in_checkpoint(files, SD1_TEXT, device, dtype)
        return OneEncoder(text, text.config.eos_token_id)
    except KeyError as error:
        raise ModelError(f"{files.place} lacks the text encoder's {error}: it is cut short") from error


def autoencoder(files: TensorFiles, scaling: float, device: str) -> AutoencoderKL:
    """The VAE of a checkpoint in float32 (SDXL's overflows in fp16); ModelError when the file has none."""
    if not any(name.startswith(VAE + "decoder.") for name in files.shapes):
        raise ModelError(f"{files.place} holds no VAE: pictures need a checkpoint with one (--images 0 draws none)")
    shapes = {name.removeprefix(VAE): shape for name, shape in files.shapes.items() if name.startswith(VAE)}
    config = _autoencoder_config(shapes, scaling)
    tensors = convert_ldm_vae_checkpoint({VAE + name: files.tensor(VAE + name) for name in shapes}, config)

    def tensor(own: str) -> torch.Tensor:
        if own not in tensors:
            raise ModelError(f"{files.place} lacks the VAE's {own}: it is cut short")
        return tensors[own]

    return filled(lambda: AutoencoderKL(**config), tensor, device, torch.float32)


def _autoencoder_config(shapes: Mapping[str, tuple[int, ...]], scaling: float) -> dict[str, Any]:
    levels = 1 + max(int(n.split(".")[2]) for n in shapes if n.startswith("encoder.down."))
    widths = [shapes[f"encoder.down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
    layers = 1 + max(int(n.split(".")[4]) for n in shapes if n.startswith("encoder.down.0.block."))
    return {
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": layers,
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "scaling_factor": scaling,
    }
