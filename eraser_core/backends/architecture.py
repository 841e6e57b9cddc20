"""What a single-file checkpoint is, told from its tensors' names and shapes alone: no configuration is fetched.

The families differ in structure: SD1.x carries CLIP-L in Hugging Face's layout, SD2.x OpenCLIP, SDXL both and a label
embedding. Everything else (widths, depths, heads) follows from shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..text_layers import STABLE_DIFFUSION, row_of
from .ldm_keys import diffusers_to_ldm

UNET = "model.diffusion_model."
VAE = "first_stage_model."
SD1_TEXT = "cond_stage_model.transformer."
SD2_TEXT = "cond_stage_model.model."
SDXL_TEXT = "conditioner.embedders.0.transformer."
SDXL_TEXT_2 = "conditioner.embedders.1.model."
SIZE_NUMBERS, SIZE_WIDTH = 6, 256  # SDXL: six size ids, each embedded in 256 numbers
SUPPORTED = "supported are whole SD 1.x, SD 2.x and SDXL base checkpoints"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """A family ("sd1", "sd2", "sdxl") and the configuration that builds its UNet in diffusers."""

    family: str
    unet: Mapping[str, Any]


def recognise(shapes: Shapes, place: str) -> Architecture:
    """The architecture of an LDM checkpoint; ModelError says why a file is none of the three families."""
    if _is_transformer(shapes):
        raise ModelError(
            f"{place} holds the network of a transformer (Flux.1, SD 3 and their like): {SUPPORTED}. Of a transformer `erase` alone "
            "reads the folder in diffusers' layout, and ComfyUI loads its erasure as a LoRA"
        )
    if not any(name.startswith(UNET) for name in shapes):
        raise ModelError(f"{place} {_what_it_is(shapes)}: {SUPPORTED}")
    family = _family(shapes, place)
    own = {name.removeprefix(UNET): shape for name, shape in shapes.items() if name.startswith(UNET)}
    config = unet_config(own, family, place)
    expected = set(diffusers_to_ldm(config).values())
    odd = [name for name in own if ".attn2." in name and name not in expected]
    if odd:
        raise ModelError(f"{place} has cross-attention where the three families have none ({odd[0]}): {SUPPORTED}")
    missing = sorted(expected - set(own))
    if missing:
        raise ModelError(
            f"{place} lacks {len(missing)} of the UNet's tensors, such as {UNET}{missing[0]}: it is cut short or of "
            f"another architecture; {SUPPORTED}"
        )
    return Architecture(family, config)


def _is_transformer(shapes: Shapes) -> bool:
    """Told by what reads the text, whatever the prefix, or by the blocks' names in ComfyUI's layout and in diffusers'."""
    if _is_lora(shapes):
        return False
    own = [name.removeprefix("model.").removeprefix("diffusion_model.") for name in shapes]
    row = row_of(f"diffusion_model.{name}" for name in own)
    blocks = ("double_blocks.", "joint_blocks.", "transformer_blocks.")
    return row not in (None, STABLE_DIFFUSION) or any(name.startswith(blocks) for name in own)


def _is_lora(shapes: Shapes) -> bool:
    return any(".lora_down." in name or ".lora_A." in name or name.endswith(".diff") for name in shapes)


def _what_it_is(shapes: Shapes) -> str:
    if _is_lora(shapes):
        return "is a LoRA or an erasure, no checkpoint (--erasure takes erasures)"
    if any(name.startswith("input_blocks.") for name in shapes):
        return "holds a UNet alone, without text encoder"
    return "is no Stable Diffusion checkpoint (it has no model.diffusion_model tensors)"


def _family(shapes: Shapes, place: str) -> str:
    labelled = UNET + "label_emb.0.0.weight" in shapes
    has = {prefix: any(name.startswith(prefix) for name in shapes) for prefix in (SD1_TEXT, SD2_TEXT, SDXL_TEXT)}
    second = any(name.startswith(SDXL_TEXT_2) for name in shapes)
    if labelled and has[SDXL_TEXT] and second:
        return "sdxl"
    if labelled:
        raise ModelError(
            f"{place} is an SDXL refiner, an unCLIP model or an SDXL file without its two text encoders: {SUPPORTED}"
        )
    if has[SD1_TEXT]:
        return "sd1"
    if has[SD2_TEXT]:
        return "sd2"
    raise ModelError(f"{place} holds no text encoder that is known here: {SUPPORTED}, with their text encoders")


def unet_config(own: Shapes, family: str, place: str) -> dict[str, Any]:
    """The configuration of diffusers' `UNet2DConditionModel` for a UNet's LDM names (without prefix) and shapes."""
    try:
        return _config(own, family, place)
    except (KeyError, IndexError, StopIteration) as error:
        raise ModelError(f"{place} lacks tensors that every UNet has ({error}): {SUPPORTED}") from error


def _config(own: Shapes, family: str, place: str) -> dict[str, Any]:
    inputs = own["input_blocks.0.0.weight"][1]
    if inputs != 4:
        raise ModelError(f"{place} reads {inputs} channels, as inpainting models do: {SUPPORTED}")
    widths, layers, depths = _levels(own, place)
    middle = _depth(own, "middle_block.1")
    if middle == 0 or depths[-1] not in (0, middle):
        raise ModelError(f"{place} has a middle block unlike the three families': {SUPPORTED}")
    attention = [d > 0 for d in depths]
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": own["out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attention[::-1]],
        # a level without transformers still gives the middle block its depth, where it is the last one
        "transformer_layers_per_block": [*(d or 1 for d in depths[:-1]), middle],
        "cross_attention_dim": next(s[1] for n, s in own.items() if n.endswith(".attn2.to_k.weight")),
        "attention_head_dim": 8 if family == "sd1" else [max(1, w // 64) for w in widths],
        "use_linear_projection": len(next(s for n, s in own.items() if n.endswith(".proj_in.weight"))) == 2,
    }
    if family == "sdxl":
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_WIDTH,
            "projection_class_embeddings_input_dim": own["label_emb.0.0.weight"][1],
        }
    return config


def _levels(own: Shapes, place: str) -> tuple[list[int], int, list[int]]:
    """Width and transformer depth of every level, and how many layers each has."""
    widths, depths, layers = [0], [-1], [0]
    count = 1 + max(int(n.split(".")[1]) for n in own if n.startswith("input_blocks."))
    for i in range(1, count):
        if f"input_blocks.{i}.0.op.weight" in own:
            widths, depths, layers = [*widths, 0], [*depths, -1], [*layers, 0]
            continue
        depth = _depth(own, f"input_blocks.{i}.1")
        if depths[-1] not in (-1, depth):
            raise ModelError(f"{place} has transformers of several depths in one level: {SUPPORTED}")
        widths[-1], depths[-1] = own[f"input_blocks.{i}.0.out_layers.3.weight"][0], depth
        layers[-1] += 1
    if len(set(layers)) > 1:
        raise ModelError(f"{place} has levels of {layers} layers: {SUPPORTED}")
    return widths, layers[0], depths


def _depth(own: Shapes, transformer: str) -> int:
    inside = f"{transformer}.transformer_blocks."
    return 1 + max((int(n.removeprefix(inside).split(".")[0]) for n in own if n.startswith(inside)), default=-1)
