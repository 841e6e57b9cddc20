"""A tiny real model of the pocket's layout with random weights, and settings of a few steps."""

from __future__ import annotations

import torch

from eraser_core.methods import METHODS
from eraser_core.pocket import PocketModel, Schedule, WordTokenizer, build_vocabulary, load_concepts
from eraser_core.pocket.model import build_modules

TINY_STEPS = {"iterations": 3, "batch": 2, "pool_size": 6, "per_trajectory": 2, "sampler_steps": 3}
# the same for the command line
QUICK = ["--iterations", "2", "--batch", "1", "--pool-size", "4", "--per-trajectory", "2", "--sampler-steps", "3"]
QUICK += ["--steps", "3"]


def tiny_model(seed: int = 0, width: int = 32) -> PocketModel:
    """The pocket's architecture, narrow: real UNet, text encoder and autoencoder with random weights."""
    vocabulary = build_vocabulary(load_concepts())
    config = {
        "unet": {
            "sample_size": 4,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            "block_out_channels": [32, 64],
            "layers_per_block": 1,
            "cross_attention_dim": width,
            "attention_head_dim": [1, 2],
            "norm_num_groups": 32,
        },
        "text_encoder": {
            "vocab_size": len(vocabulary),
            "hidden_size": width,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
        },
        "autoencoder": {
            "latent_channels": 4,
            "encoder_block_out_channels": [8] * 4,
            "decoder_block_out_channels": [8] * 4,
        },
        "sampling": {"guidance": 3.0, "steps": 4},
    }
    torch.manual_seed(seed)
    unet, text, autoencoder = build_modules(config)
    schedule = Schedule("scaled_linear", 0.00085, 0.012, 1000, "epsilon")
    return PocketModel(unet.eval(), text.eval(), WordTokenizer(vocabulary), autoencoder.eval(), schedule, config)


def settings(name: str = "kpop", **values):
    """A method's pocket preset cut down to a few steps."""
    return METHODS[name].configure("pocket", {**TINY_STEPS, **values})
