"""A tiny real flow-matching transformer (Lumina 2's class) with random weights, behind the engine's seam."""

from __future__ import annotations

import torch
from diffusers import Lumina2Transformer2DModel
from tiny_model import tiny_model

from eraser_core.backends.diffusers import Budget, DiffusersDenoiser
from eraser_core.backends.lumina import LuminaWiring
from eraser_core.backends.pocket import PocketText
from eraser_core.denoiser import FlowSchedule

CONFIG = {
    "sample_size": 4,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 32,
    "num_layers": 2,
    "num_refiner_layers": 1,
    "num_attention_heads": 2,
    "num_kv_heads": 2,
    "multiple_of": 16,
    "ffn_dim_multiplier": 0.5,
    "axes_dim_rope": [4, 6, 6],
    "axes_lens": [64, 16, 16],
    "cap_feat_dim": 32,
}


def tiny_flow(seed: int = 0, shift: float = 2.0, budget: Budget | None = None) -> DiffusersDenoiser:
    """The pocket's tiny text encoder and autoencoder with a transformer of two layers between them."""
    model = tiny_model(seed)
    torch.manual_seed(seed + 1)
    transformer = Lumina2Transformer2DModel(**CONFIG)
    with torch.no_grad():  # norms differ from one, so that a state behind the norm differs from one before it
        for name, parameter in transformer.named_parameters():
            if parameter.dim() == 1 and ("norm" in name or "caption_embedder.0" in name) and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
    schedule = FlowSchedule.shifted(shift)
    wiring = LuminaWiring(transformer, schedule, time_scale=1000.0)
    return DiffusersDenoiser("pocket-flow", wiring, PocketText(model), model.autoencoder, schedule, budget=budget)
