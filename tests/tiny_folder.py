"""A model folder of SD1.x's layout with random weights, and the folder of a tiny CLIP with all its parts."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from eraser_core.evaluation.metrics.alignment import _pillow_processor

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
TEXT = {"vocab_size": len(WORDS), "bos_token_id": 52, "eos_token_id": 53}
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def tokenizer(path: Path, length: int, filling: str = "") -> transformers.CLIPTokenizer:
    """Letters are its words. Before them comes what fills short prompts, where it is not the end token."""
    path.mkdir(parents=True, exist_ok=True)
    words = [*filling, *WORDS]
    (path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    named = {"pad_token": filling} if filling else {}
    files = str(path / "vocab.json"), str(path / "merges.txt")
    made = transformers.CLIPTokenizer(*files, model_max_length=length, **named)
    made.save_pretrained(path)
    return made


def sd_folder(path: Path) -> Path:
    """Pictures of 64 pixels a side."""
    torch.manual_seed(0)
    cross = ["CrossAttnDownBlock2D", "DownBlock2D"], ["UpBlock2D", "CrossAttnUpBlock2D"]
    UNet2DConditionModel(
        sample_size=8,
        down_block_types=cross[0],
        up_block_types=cross[1],
        block_out_channels=(32, 64),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
    ).save_pretrained(path / "unet")
    CLIPTextModel(CLIPTextConfig(**TEXT, **SIZE, max_position_embeddings=77)).save_pretrained(path / "text_encoder")
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    AutoencoderKL(
        block_out_channels=(8,) * 4, norm_num_groups=4, latent_channels=4, layers_per_block=1, **blocks
    ).save_pretrained(path / "vae")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(path / "scheduler")
    tokenizer(path / "tokenizer", 77)
    return path


def pipeline_folder(path: Path) -> Path:
    """The same as diffusers' own pipelines open it."""
    sd_folder(path)
    parts = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index: dict[str, object] = {name: ["diffusers", kind] for name, kind in parts.items()}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    said = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.33.0", **index}
    (path / "model_index.json").write_text(json.dumps(said), encoding="utf-8")
    return path


def clip_folder(path: Path) -> Path:
    """CLIP's real parts with random weights."""
    made = tokenizer(path, 20)
    vision = {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    text = TEXT | SIZE | {"max_position_embeddings": 20}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision | SIZE, projection_dim=16)).save_pretrained(path)
    made.save_pretrained(path)
    _pillow_processor()(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(path)
    return path
