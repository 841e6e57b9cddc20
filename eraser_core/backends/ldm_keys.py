"""Names of UNet parameters: diffusers on one side, the LDM layout of checkpoints, ComfyUI and LoRA files on the other.

The names follow from the UNet's configuration alone, so nothing is guessed from the tensors. Covered: UNets of the SD1.x, SD2.x and
SDXL kind (any number of levels, layers a block and transformer depth; `proj_in` linear or convolution, which changes shapes, not names).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
}
_DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}


def diffusers_to_ldm(unet_config: Mapping[str, Any]) -> dict[str, str]:
    """Every parameter name of a diffusers `UNet2DConditionModel` -> its LDM name, without `model.diffusion_model.`.

    `unet_config` is `unet.config` (or the dict that builds the UNet; diffusers' defaults stand in for what it leaves out).
    """
    return dict(_pairs(_Shape(unet_config)))


def ldm_to_diffusers(unet_config: Mapping[str, Any]) -> dict[str, str]:
    """The inverse of `diffusers_to_ldm`."""
    return {ldm: diffusers for diffusers, ldm in diffusers_to_ldm(unet_config).items()}


class _Shape:
    """What the names depend on, read from a configuration with diffusers' defaults."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.channels: tuple[int, ...] = tuple(config.get("block_out_channels", (320, 640, 1280, 1280)))
        levels = len(self.channels)
        down = config.get("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
        up = config.get("up_block_types", ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
        for name, known in [(d, _DOWN) for d in down] + [(u, _UP) for u in up]:
            if name not in known:
                raise ValueError(f"a UNet block of type {name!r} has no LDM names; known: {', '.join([*_DOWN, *_UP])}")
        if config.get("mid_block_type", "UNetMidBlock2DCrossAttn") != "UNetMidBlock2DCrossAttn":
            raise ValueError(f"a UNet middle block of type {config['mid_block_type']!r} has no LDM names")
        if config.get("dual_cross_attention") or config.get("encoder_hid_dim_type"):
            raise ValueError("UNets with dual cross-attention or image projections have no LDM names")
        self.down = [_DOWN[name] for name in down]
        self.up = [_UP[name] for name in up]
        self.layers = _per_level(config.get("layers_per_block", 2), levels)
        self.depth = _per_level(config.get("transformer_layers_per_block", 1), levels)
        reverse = config.get("reverse_transformer_layers_per_block")
        self.up_depth = _per_level(reverse, levels) if reverse is not None else self.depth[::-1]
        self.attention_bias = bool(config.get("attention_bias", False))
        self.label_embedding = config.get("addition_embed_type") == "text_time"  # SDXL's size ids and pooled text


def _per_level(value: int | Sequence[int], levels: int) -> list[int]:
    return [value] * levels if isinstance(value, int) else list(value)


def _both(diffusers: str, ldm: str, bias: bool = True) -> Iterator[tuple[str, str]]:
    """Weight and bias of one module."""
    yield f"{diffusers}.weight", f"{ldm}.weight"
    if bias:
        yield f"{diffusers}.bias", f"{ldm}.bias"


def _resnet(diffusers: str, ldm: str, shortcut: bool) -> Iterator[tuple[str, str]]:
    for ours, theirs in _RESNET.items():
        yield from _both(f"{diffusers}.{ours}", f"{ldm}.{theirs}")
    if shortcut:
        yield from _both(f"{diffusers}.conv_shortcut", f"{ldm}.skip_connection")


def _transformer(diffusers: str, ldm: str, depth: int, attention_bias: bool) -> Iterator[tuple[str, str]]:
    """A spatial transformer: both layouts use the same names inside."""
    for name in ("norm", "proj_in", "proj_out"):
        yield from _both(f"{diffusers}.{name}", f"{ldm}.{name}")
    for k in range(depth):
        here, there = f"{diffusers}.transformer_blocks.{k}", f"{ldm}.transformer_blocks.{k}"
        for attention in ("attn1", "attn2"):
            for name in ("to_q", "to_k", "to_v"):
                yield from _both(f"{here}.{attention}.{name}", f"{there}.{attention}.{name}", attention_bias)
            yield from _both(f"{here}.{attention}.to_out.0", f"{there}.{attention}.to_out.0")
        for name in ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2"):
            yield from _both(f"{here}.{name}", f"{there}.{name}")


def _pairs(shape: _Shape) -> Iterator[tuple[str, str]]:
    for n, linear in ((0, "linear_1"), (2, "linear_2")):
        yield from _both(f"time_embedding.{linear}", f"time_embed.{n}")
        if shape.label_embedding:
            yield from _both(f"add_embedding.{linear}", f"label_emb.0.{n}")
    yield from _both("conv_in", "input_blocks.0.0")
    yield from _down_blocks(shape)
    yield from _resnet("mid_block.resnets.0", "middle_block.0", False)
    yield from _transformer("mid_block.attentions.0", "middle_block.1", shape.depth[-1], shape.attention_bias)
    yield from _resnet("mid_block.resnets.1", "middle_block.2", False)
    yield from _up_blocks(shape)
    yield from _both("conv_norm_out", "out.0")
    yield from _both("conv_out", "out.2")


def _down_blocks(shape: _Shape) -> Iterator[tuple[str, str]]:
    number, before = 1, shape.channels[0]
    for i, width in enumerate(shape.channels):
        for j in range(shape.layers[i]):
            shortcut = j == 0 and before != width
            yield from _resnet(f"down_blocks.{i}.resnets.{j}", f"input_blocks.{number}.0", shortcut)
            if shape.down[i]:
                here = f"down_blocks.{i}.attentions.{j}"
                yield from _transformer(here, f"input_blocks.{number}.1", shape.depth[i], shape.attention_bias)
            number += 1
        if i < len(shape.channels) - 1:
            yield from _both(f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{number}.0.op")
            number += 1
        before = width


def _up_blocks(shape: _Shape) -> Iterator[tuple[str, str]]:
    number, widths, layers = 0, shape.channels[::-1], shape.layers[::-1]
    before = widths[0]
    for i, width in enumerate(widths):
        last_skip = widths[min(i + 1, len(widths) - 1)]
        count = layers[i] + 1  # one more than on the way down: the skip of the downsampler
        for j in range(count):
            incoming = (before if j == 0 else width) + (last_skip if j == count - 1 else width)
            yield from _resnet(f"up_blocks.{i}.resnets.{j}", f"output_blocks.{number}.0", incoming != width)
            if shape.up[i]:
                here = f"up_blocks.{i}.attentions.{j}"
                yield from _transformer(here, f"output_blocks.{number}.1", shape.up_depth[i], shape.attention_bias)
            if j == count - 1 and i < len(widths) - 1:
                slot = 2 if shape.up[i] else 1
                yield from _both(f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{number}.{slot}.conv")
            number += 1
        before = width
