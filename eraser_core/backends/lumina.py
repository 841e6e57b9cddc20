"""Lumina 2's transformer (NextDiT) as diffusers has it, under ComfyUI's names (comfy/ldm/lumina/model.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import Lumina2Transformer2DModel
from torch import Tensor, nn

from ..denoiser import Context, FlowSchedule
from .wiring import PREFIX

_OUTER = {
    "x_embedder": "x_embedder",
    "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
    "cap_embedder.0": "time_caption_embed.caption_embedder.0",
    "cap_embedder.1": "time_caption_embed.caption_embedder.1",
    "final_layer.adaLN_modulation.1": "norm_out.linear_1",
    "final_layer.linear": "norm_out.linear_2",
}
_INNER = {
    "attention.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "attention.out": ("attn.to_out.0",),
    "attention.q_norm": ("attn.norm_q",),
    "attention.k_norm": ("attn.norm_k",),
    "attention_norm2": ("norm2",),
    "ffn_norm1": ("ffn_norm1",),
    "ffn_norm2": ("ffn_norm2",),
    "feed_forward.w1": ("feed_forward.linear_1",),
    "feed_forward.w2": ("feed_forward.linear_2",),
    "feed_forward.w3": ("feed_forward.linear_3",),
}
_TOLD_THE_TIME = {"adaLN_modulation.1": ("norm1.linear",), "attention_norm1": ("norm1.norm",)}
_TEXT_ALONE = {"attention_norm1": ("norm1",)}


def host_names(transformer: nn.Module, config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """ComfyUI's name (without prefix) of every parameter -> diffusers' names, three for a fused qkv."""
    modules: dict[str, tuple[str, ...]] = {host: (own,) for host, own in _OUTER.items()}
    blocks = {"layers": config["num_layers"]}
    blocks |= dict.fromkeys(("noise_refiner", "context_refiner"), config["num_refiner_layers"])
    for stack, count in blocks.items():
        inner = _INNER | (_TEXT_ALONE if stack == "context_refiner" else _TOLD_THE_TIME)
        for i in range(count):
            modules |= {f"{stack}.{i}.{h}": tuple(f"{stack}.{i}.{o}" for o in own) for h, own in inner.items()}
    parameters = dict(transformer.named_parameters())
    names = {}
    for host, own in modules.items():
        for kind in ("weight", "bias"):
            if f"{own[0]}.{kind}" in parameters:
                names[f"{host}.{kind}"] = tuple(f"{name}.{kind}" for name in own)
    return names


class LuminaWiring:
    """All text tokens count: there is no mask, as in the host where the text encoder gives none.

    The network is told (1 - s) * `time_scale` and answers with z_0 - eps. Text tokens stand at the places 1 to n of the
    first axis and the picture at n + 1, so tokens that are appended move it along.
    """

    def __init__(self, transformer: Lumina2Transformer2DModel, schedule: FlowSchedule, time_scale: float = 1.0):
        self.network, self._schedule, self._scale = transformer, schedule, time_scale
        hosts = host_names(transformer, transformer.config)
        self.names: Mapping[str, tuple[str, ...]] = {PREFIX + host: own for host, own in hosts.items()}
        size = int(transformer.config.sample_size)
        self.latent_shape = (int(transformer.config.in_channels), size, size)

    def blocks(self) -> Mapping[str, nn.Module]:
        return {f"layers.{i}": block for i, block in enumerate(self.network.layers)}

    def file_name(self, key: str) -> str:
        return "lora_unet_" + key.removeprefix(PREFIX).rpartition(".")[0].replace(".", "_")

    def call(self, z_t: Tensor, t: Tensor, context: Context) -> tuple[tuple[Any, ...], dict[str, Any]]:
        left, _ = self._schedule.levels(t)
        tokens = context.tokens.to(z_t.dtype)
        mask = torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device)
        time = (left * self._scale).to(z_t.device, torch.float32)
        return (z_t, time, tokens, mask), {"return_dict": False}

    def native(self, out: Tensor) -> Tensor:
        return -out

    @torch.no_grad()
    def as_read(self, tokens: Tensor) -> Tensor:
        norm = self.network.time_caption_embed.caption_embedder[0]
        read: Tensor = norm(tokens.to(norm.weight)).float()
        return read
