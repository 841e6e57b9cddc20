"""Checkpoint files and folders of the three families, narrow, with random weights and the names of real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from eraser_core.backends.ldm_keys import diffusers_to_ldm

TEXT_WIDTH, SECOND_WIDTH, VOCABULARY = 64, 128, 49408
CROSS = ["CrossAttnDownBlock2D", "DownBlock2D"], ["UpBlock2D", "CrossAttnUpBlock2D"]
DEEP = ["DownBlock2D", "CrossAttnDownBlock2D"], ["CrossAttnUpBlock2D", "UpBlock2D"]
COMMON: dict[str, Any] = {"block_out_channels": [64, 128], "layers_per_block": 1, "sample_size": 8}
UNETS: dict[str, dict[str, Any]] = {
    "sd1": COMMON
    | {"down_block_types": CROSS[0], "up_block_types": CROSS[1]}
    | {"cross_attention_dim": TEXT_WIDTH, "attention_head_dim": 8},
    "sd2": COMMON
    | {"down_block_types": CROSS[0], "up_block_types": CROSS[1], "use_linear_projection": True}
    | {"cross_attention_dim": TEXT_WIDTH, "attention_head_dim": [1, 2]},
    "sdxl": COMMON
    | {"down_block_types": DEEP[0], "up_block_types": DEEP[1], "use_linear_projection": True}
    | {"transformer_layers_per_block": [1, 2], "cross_attention_dim": TEXT_WIDTH + SECOND_WIDTH}
    | {"attention_head_dim": [1, 2], "addition_embed_type": "text_time", "addition_time_embed_dim": 256}
    | {"projection_class_embeddings_input_dim": SECOND_WIDTH + 6 * 256},
}
VAE = {"block_out_channels": [32, 32], "layers_per_block": 1, "latent_channels": 4}
VAE |= {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
FAMILIES = tuple(UNETS)


def text_config(width: int, act: str, layers: int = 2) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=77,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )


@cache
def build(family: str, seed: int = 0) -> dict[str, nn.Module]:
    """The parts of a model: `unet`, `text_encoder`, for SDXL `text_encoder_2`, `vae`."""
    torch.manual_seed(seed)
    layers = 3 if family == "sdxl" else 2  # of SDXL's the last but one is read, which hosts want to be no first one
    parts: dict[str, nn.Module] = {"unet": UNet2DConditionModel(**UNETS[family]), "vae": AutoencoderKL(**VAE)}
    if family == "sd2":
        parts["text_encoder"] = CLIPTextModel(text_config(TEXT_WIDTH, "gelu"))
    else:
        parts["text_encoder"] = CLIPTextModel(text_config(TEXT_WIDTH, "quick_gelu", layers))
    if family == "sdxl":
        parts["text_encoder_2"] = CLIPTextModelWithProjection(text_config(SECOND_WIDTH, "gelu", layers))
    for part in parts.values():
        for name, parameter in part.named_parameters():
            if parameter.dim() == 1 and "norm" in name:  # else every norm would be the same
                parameter.data += 0.1 * torch.randn(parameter.shape)
    return {name: part.eval().requires_grad_(False) for name, part in parts.items()}


def hugging_face(module: nn.Module) -> dict[str, Tensor]:
    """A text encoder's tensors by the names in files: transformers 5 leaves `text_model.` out of its own."""
    named = dict(module.named_parameters())
    return {n if n.startswith(("text_model.", "text_projection")) else f"text_model.{n}": p for n, p in named.items()}


def open_clip(module: nn.Module, spare_layer: bool) -> dict[str, Tensor]:
    """The same by OpenCLIP's names; `spare_layer` adds the last layer that SD2.x does not use."""
    found: dict[str, Tensor] = {}
    tensors = {n.removeprefix("text_model."): p for n, p in hugging_face(module).items()}
    renamed = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    layers = 1 + max(int(n.split(".")[2]) for n in tensors if n.startswith("encoder.layers."))
    for i in range(layers + spare_layer):
        own, block = f"encoder.layers.{min(i, layers - 1)}.", f"transformer.resblocks.{i}."
        for kind in ("weight", "bias"):
            joined = torch.cat([tensors[f"{own}self_attn.{part}_proj.{kind}"] for part in "qkv"])
            found[f"{block}attn.in_proj_{kind}"] = joined * (2 if i == layers else 1)
            found[f"{block}attn.out_proj.{kind}"] = tensors[f"{own}self_attn.out_proj.{kind}"]
            for ours, theirs in renamed.items():
                found[f"{block}{theirs}.{kind}"] = tensors[f"{own}{ours}.{kind}"]
    found["positional_embedding"] = tensors["embeddings.position_embedding.weight"]
    found["token_embedding.weight"] = tensors["embeddings.token_embedding.weight"]
    found["ln_final.weight"], found["ln_final.bias"] = (tensors[f"final_layer_norm.{k}"] for k in ("weight", "bias"))
    if "text_projection.weight" in tensors:
        found["text_projection"] = tensors["text_projection.weight"].T
    return found


def vae_in_ldm(module: nn.Module) -> dict[str, Tensor]:
    """An autoencoder's tensors by LDM names."""
    levels = len(VAE["block_out_channels"])
    renamed = {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "downsamplers.0": "downsample"}
    renamed |= {"upsamplers.0": "upsample", "mid_block.attentions.0": "mid.attn_1", "group_norm": "norm"}
    renamed |= {"mid_block.resnets.0": "mid.block_1", "mid_block.resnets.1": "mid.block_2", "resnets.": "block."}
    renamed |= {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "down_blocks.": "down."}
    renamed |= {f"up_blocks.{i}.": f"up.{levels - 1 - i}." for i in range(levels)}
    found = {}
    for name, tensor in module.named_parameters():
        for own, ldm in renamed.items():
            name = name.replace(own, ldm)
        found[name] = tensor[:, :, None, None] if ".attn_1." in name and tensor.dim() == 2 else tensor
    return found


def in_ldm(family: str, parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All tensors of a single-file checkpoint."""
    names = diffusers_to_ldm(UNETS[family])
    found = {f"model.diffusion_model.{names[n]}": p for n, p in parts["unet"].named_parameters()}
    found |= {f"first_stage_model.{n}": p for n, p in vae_in_ldm(parts["vae"]).items()}
    first, second = parts["text_encoder"], parts.get("text_encoder_2")
    if family == "sd2":
        found |= {f"cond_stage_model.model.{n}": p for n, p in open_clip(first, True).items()}
    else:
        prefix = "cond_stage_model.transformer." if family == "sd1" else "conditioner.embedders.0.transformer."
        found |= {prefix + n: p for n, p in hugging_face(first).items()}
    if second is not None:
        found |= {f"conditioner.embedders.1.model.{n}": p for n, p in open_clip(second, False).items()}
    return found


def write_checkpoint(
    path: Path,
    family: str,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    extra: Mapping[str, Tensor] | None = None,
    without: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """A single-file checkpoint; `without` leaves out every tensor whose name begins so."""
    tensors = {n: p.detach().to(dtype).contiguous().clone() for n, p in in_ldm(family, build(family, seed)).items()}
    tensors = {n: p for n, p in tensors.items() if without is None or not n.startswith(without)}
    save_file({**tensors, **(extra or {})}, path, dict(metadata or {}))
    return path


def write_folder(path: Path, family: str, *, seed: int = 0, scheduler: Mapping[str, Any] | None = None) -> Path:
    """The same model as a folder in diffusers' layout."""
    for name, part in build(family, seed).items():
        part.save_pretrained(path / name)  # type: ignore[operator]
    (path / "scheduler").mkdir(parents=True)
    said = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, **(scheduler or {})}
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(said), encoding="utf-8")
    from eraser_core.backends.clip_tokens import END, START, vocabulary

    words, merges = vocabulary()
    (path / "tokenizer").mkdir()
    assert words[START] == VOCABULARY - 2 and words[END] == VOCABULARY - 1
    (path / "tokenizer" / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (path / "tokenizer" / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return path
