"""The UNets of the real models, by their configurations."""

from __future__ import annotations

from typing import Any

CROSS_DOWN, CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
CONFIGS: dict[str, dict[str, Any]] = {
    "pocket": {
        "block_out_channels": (128, 256),
        "layers_per_block": 1,
        "down_block_types": (CROSS_DOWN,) * 2,
        "up_block_types": (CROSS_UP,) * 2,
        "cross_attention_dim": 192,
        "attention_head_dim": (4, 8),
    },
    "sd15": {"cross_attention_dim": 768},
    "sd21": {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", CROSS_DOWN, CROSS_DOWN),
        "up_block_types": (CROSS_UP, CROSS_UP, "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "three levels, one layer, mixed": {
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 1,
        "down_block_types": (CROSS_DOWN, "DownBlock2D", CROSS_DOWN),
        "up_block_types": (CROSS_UP, "UpBlock2D", CROSS_UP),
        "cross_attention_dim": 64,
        "attention_head_dim": (2, 2, 2),
    },
}
