"""Stable Diffusion's true UNets with random weights, for what a benchmark needs of them: sizes and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from eraser_core.backends.diffusers import Budget, DiffusersDenoiser
from eraser_core.backends.modules import filled
from eraser_core.denoiser import Context, NoiseSchedule

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
SD15: dict[str, Any] = {"cross_attention_dim": 768, "attention_head_dim": 8}
SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", DOWN, DOWN),
    "up_block_types": (UP, UP, "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SIDES = {"sd15": 64, "sdxl": 128}
FAMILIES = {"sd15": "sd1", "sdxl": "sdxl"}
UNETS = {"sd15": SD15, "sdxl": SDXL}
NARROW = {"block_out_channels": (64, 128, 128)}


def unet_config(name: str, narrow: bool) -> dict[str, Any]:
    """A UNet's configuration; `narrow` is a small one of the same kind, for smoke tests."""
    config = dict(UNETS[name])
    if narrow:
        config |= NARROW if name == "sdxl" else {"block_out_channels": (64, 64, 128, 128)}
        config |= {"transformer_layers_per_block": (1, 1, 2), "attention_head_dim": (1, 2, 2)} if name == "sdxl" else {}
    return config


class RandomText:
    """Contexts of the right shape without a text encoder: the same prompt, the same noise."""

    tokens_per_chunk = 77

    def __init__(self, width: int, pooled: int, device: str = "cpu"):
        self._width, self._pooled, self._device = width, pooled, device

    def encode(self, prompts: Sequence[str]) -> Context:
        seeds = [torch.Generator().manual_seed(sum(p.encode())) for p in prompts]
        tokens = torch.stack([torch.randn(77, self._width, generator=g) for g in seeds]).to(self._device)
        if not self._pooled:
            return Context(tokens)
        pooled = torch.stack([torch.randn(self._pooled, generator=g) for g in seeds]).to(self._device)
        sizes = torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]], device=self._device)
        return Context(tokens, pooled, sizes.expand(len(prompts), -1))

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        return self.encode(prompts).tokens[:, :n]

    def token_count(self, prompt: str) -> int:
        return 1 + len(prompt.split())

    def release(self) -> None:
        """There is nothing to let go of."""


def denoiser(
    name: str,
    narrow: bool,
    side: int,
    dtype: torch.dtype,
    budget: Budget,
    device: str = "cpu",
    reader: type[RandomText] | None = None,
) -> DiffusersDenoiser:
    """A UNet with small random weights behind the seam, and a reader of texts; it draws no pictures."""
    config = {**unet_config(name, narrow), "sample_size": side}
    generator = torch.Generator(device).manual_seed(0)
    with torch.device("meta"):
        shapes = {n: p.shape for n, p in UNet2DConditionModel(**config).named_parameters()}

    def tensor(own: str) -> Tensor:
        return torch.empty(shapes[own], dtype=dtype, device=device).uniform_(-0.03, 0.03, generator=generator)

    unet = filled(lambda: UNet2DConditionModel(**config), tensor, device)
    pooled = config.get("projection_class_embeddings_input_dim", 0)
    text = (reader or RandomText)(config["cross_attention_dim"], pooled - 6 * 256 if pooled else 0, device)
    schedule = NoiseSchedule.scaled_linear()
    return DiffusersDenoiser(FAMILIES[name], unet, text, _no_pictures, schedule, base_hash="", budget=budget)


def _no_pictures() -> Any:
    raise SystemExit("there is no autoencoder here")
