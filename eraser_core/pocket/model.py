"""The pocket models: reading a checkpoint (ComfyUI's layout, fp16) into diffusers and transformers modules."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, Lumina2Transformer2DModel, UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from eraser_core.backends.ldm_keys import diffusers_to_ldm
from eraser_core.backends.lumina import host_names
from eraser_core.errors import ModelError
from eraser_core.pocket.tokenizer import WordTokenizer

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER / "checkpoint" / "pocket.safetensors"  # without the judge: ComfyUI lists every file of a folder
FLOW_WEIGHTS = FOLDER / "checkpoint" / "pocket_flow.safetensors"
UNET_PREFIX = "model.diffusion_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
ENCODER_PREFIX = "first_stage_model.taesd_encoder."
DECODER_PREFIX = "first_stage_model.taesd_decoder."


@dataclass(frozen=True)
class Schedule:
    """The noise schedule's facts, under the names that diffusers' schedulers use."""

    beta_schedule: str
    beta_start: float
    beta_end: float
    num_train_timesteps: int
    prediction_type: str

    def betas(self) -> Tensor:
        """[steps] float64; "scaled_linear" is linear in the square root, as in SD."""
        if self.beta_schedule != "scaled_linear":
            raise ValueError(f"unknown beta schedule {self.beta_schedule!r}")
        root = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.num_train_timesteps, dtype=torch.float64)
        return root**2

    def alphas_cumprod(self) -> Tensor:
        """[steps] float64: the share of the picture's variance that is left at each timestep."""
        return torch.cumprod(1 - self.betas(), dim=0)


@dataclass(frozen=True)
class FlowFacts:
    """The same of a flow-matching model: the sampling grid's shift, and how many times 1 - s its network is told."""

    shift: float
    num_train_timesteps: int
    time_scale: float


@dataclass(frozen=True)
class PocketModel:
    """The model's parts, fp32, in eval mode, frozen. `config` is all of the JSON beside the checkpoint."""

    network: UNet2DConditionModel | Lumina2Transformer2DModel
    text_encoder: CLIPTextModel
    tokenizer: WordTokenizer
    autoencoder: AutoencoderTiny
    schedule: Schedule | FlowFacts
    config: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def guidance(self) -> float:
        """The guidance scale that the model's figures are for."""
        return float(self.config["sampling"]["guidance"])

    @property
    def steps(self) -> int:
        """The sampling steps that the model's figures are for."""
        return int(self.config["sampling"]["steps"])

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> context [b, 16, 192] (last hidden state after the final layer norm). Gradients flow if enabled."""
        tokens = self.tokenizer.encode(texts).to(self.device)
        return self.text_encoder(input_ids=tokens).last_hidden_state

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """[b, 3, 64, 64] in [0, 1] -> latents [b, 8, 8, 8] of about unit variance."""
        return self.autoencoder.encoder(images * 2 - 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [b, 8, 8, 8] -> [b, 3, 64, 64] in [0, 1]."""
        return self.autoencoder.decoder(latents).add(1).div(2).clamp(0, 1)


def load_pocket(path: str | Path | None = None, device: str | torch.device = "cpu") -> PocketModel:
    """Read the shipped model, or another checkpoint with its JSON beside it (`NAME.safetensors`, `NAME.json`)."""
    weights = Path(path) if path is not None else WEIGHTS
    facts = weights.with_suffix(".json")
    for needed in (weights, facts):
        if not needed.is_file():
            raise ModelError(
                f"the pocket model's file {needed} is missing: the checkpoint and its JSON belong side by side"
            )
    config = json.loads(facts.read_text(encoding="utf-8"))
    network, text_encoder, autoencoder = build_modules(config)
    tensors: dict[str, Tensor] = {}
    with safe_open(weights, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (safe_open is no dict)
            tensors[key] = file.get_tensor(key)
    if isinstance(network, Lumina2Transformer2DModel):
        parts = _split(host_names(network, config["transformer"]), tensors)
        tensors |= parts
        keys = {own: own for own in parts}
    else:
        keys = unet_keys(config)
    for module, names in (
        (network, keys),
        (text_encoder, text_keys(text_encoder)),
        (autoencoder, autoencoder_keys(autoencoder)),
    ):
        fill_module(module, names, tensors)
        module.requires_grad_(False).eval().to(device)
    log.debug("read %s: %d tensors", weights, len(tensors))
    tokenizer = WordTokenizer(config["vocabulary"], config["text_encoder"]["max_position_embeddings"])
    facts_of = FlowFacts if "transformer" in config else Schedule
    return PocketModel(network, text_encoder, tokenizer, autoencoder, facts_of(**config["schedule"]), config)


def build_modules(
    config: Mapping[str, Any],
) -> tuple[UNet2DConditionModel | Lumina2Transformer2DModel, CLIPTextModel, AutoencoderTiny]:
    """The empty modules (random weights, fp32) that a configuration describes."""
    network = (
        Lumina2Transformer2DModel(**config["transformer"])
        if "transformer" in config
        else UNet2DConditionModel(**config["unet"])
    )
    text_encoder = CLIPTextModel(CLIPTextConfig(**config["text_encoder"]))
    return network, text_encoder, AutoencoderTiny(**config["autoencoder"])


def _split(names: Mapping[str, tuple[str, ...]], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The transformer's parameters by diffusers' names: the checkpoint has query, key and value in one tensor."""
    found: dict[str, Tensor] = {}
    for host, parts in names.items():
        key = UNET_PREFIX + host
        if key not in tensors:
            raise ModelError(f"the checkpoint lacks {key}: it is cut short or of another architecture")
        found |= dict(zip(parts, tensors[key].chunk(len(parts)), strict=True))
    return found


def unet_keys(config: Mapping[str, Any]) -> dict[str, str]:
    """Parameter name in the diffusers UNet -> key in the checkpoint."""
    return {own: UNET_PREFIX + ldm for own, ldm in diffusers_to_ldm(config["unet"]).items()}


def text_keys(text_encoder: nn.Module) -> dict[str, str]:
    """Parameter name in the text encoder -> key in the checkpoint. Newer transformers leave `text_model.` out of their names."""
    return {own: TEXT_PREFIX + own.removeprefix("text_model.") for own, _ in text_encoder.named_parameters()}


def autoencoder_keys(autoencoder: nn.Module) -> dict[str, str]:
    """Parameter name in AutoencoderTiny -> key in the checkpoint: TAESD counts the decoder's clamp as its module 0."""
    keys = {}
    for own, _ in autoencoder.named_parameters():
        half, _, number, rest = own.split(".", 3)  # "encoder", "layers", number, rest
        keys[own] = (
            f"{ENCODER_PREFIX}{number}.{rest}" if half == "encoder" else f"{DECODER_PREFIX}{int(number) + 1}.{rest}"
        )
    return keys


@torch.no_grad()
def fill_module(module: nn.Module, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into a module's parameters, every one of them, whatever the file's precision."""
    for own, parameter in module.named_parameters():
        key = names[own]
        if key not in tensors:
            raise ModelError(f"the checkpoint lacks {key}: it is cut short or of another architecture")
        if tensors[key].shape != parameter.shape:
            raise ModelError(f"{key} has shape {tuple(tensors[key].shape)}, not {tuple(parameter.shape)}")
        parameter.copy_(tensors[key])
