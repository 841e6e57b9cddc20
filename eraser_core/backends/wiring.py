"""How one of diffusers' networks is called and what its parameters are canonically called: all that differs between families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from ..denoiser import Context
from .ldm_keys import diffusers_to_ldm

PREFIX = "diffusion_model."


class Wiring(Protocol):
    """A network of one family behind `DiffusersDenoiser`.

    `names` maps each canonical name to the network's own parameters: several where the host keeps in one tensor, row
    below row, what diffusers keeps in several.
    """

    network: Any
    names: Mapping[str, tuple[str, ...]]
    latent_shape: tuple[int, int, int]

    def blocks(self) -> Mapping[str, nn.Module]:
        """The modules, by name, that gradient checkpointing runs through its own function."""

    def file_name(self, key: str) -> str:
        """kohya's name of the module that holds a parameter."""

    def call(self, z_t: Tensor, t: Tensor, context: Context) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the network is called with, for z_t of its own dtype; `t` are timesteps [b] of the schedule."""

    def native(self, out: Tensor) -> Tensor:
        """The native prediction of the schedule, from the network's output."""

    def as_read(self, tokens: Tensor) -> Tensor:
        """See `Denoiser.as_read`."""


class UNetWiring:
    """Stable Diffusion's UNets. `ldm_files`: kohya names SDXL's modules as LDM does, those of SD1.x and SD2.x as diffusers."""

    def __init__(self, unet: UNet2DConditionModel, ldm_files: bool):
        self.network, self._ldm_files = unet, ldm_files
        ldm = diffusers_to_ldm(unet.config)
        self.names: Mapping[str, tuple[str, ...]] = {PREFIX + name: (own,) for own, name in ldm.items()}
        size = int(unet.config.sample_size)
        self.latent_shape = (int(unet.config.in_channels), size, size)

    def blocks(self) -> Mapping[str, nn.Module]:
        return {name: m for name, m in self.network.named_modules() if isinstance(m, BasicTransformerBlock)}

    def file_name(self, key: str) -> str:
        said = key.removeprefix(PREFIX) if self._ldm_files else self.names[key][0]
        return "lora_unet_" + said.rpartition(".")[0].replace(".", "_")

    def call(self, z_t: Tensor, t: Tensor, context: Context) -> tuple[tuple[Any, ...], dict[str, Any]]:
        added = None
        if context.pooled is not None:
            added = {"text_embeds": context.pooled.to(z_t.dtype), "time_ids": context.size_ids}
        words = {"encoder_hidden_states": context.tokens.to(z_t.dtype), "added_cond_kwargs": added}
        return (z_t, t), words | {"return_dict": False}

    def native(self, out: Tensor) -> Tensor:
        return out

    def as_read(self, tokens: Tensor) -> Tensor:
        return tokens


def rows_below(parameters: Mapping[str, nn.Parameter], own: tuple[str, ...]) -> Tensor:
    """The host's one tensor for several parameters, which become views of it: nothing is held twice."""
    if len(own) == 1:
        return parameters[own[0]]
    whole = torch.cat([parameters[name].detach() for name in own])
    for name, part in zip(own, whole.split([len(parameters[name]) for name in own]), strict=True):
        parameters[name].data = part
    return whole
