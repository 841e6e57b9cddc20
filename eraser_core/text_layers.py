"""Where a network reads its text: the parameters that text states meet first, one row an architecture, told by their names.

Names are ComfyUI's. A UNet reads the text anew in every cross-attention block, by K and V. A transformer that puts text and
picture into one sequence reads it once, by one matrix at the door.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class TextLayers:
    """`reads` finds the weights that text states are multiplied with, `attention` the parameters of all layers in which
    text and picture meet. `door`: it is one matrix; in some models the text states pass a norm first."""

    reads: re.Pattern[str]
    attention: re.Pattern[str]
    door: bool


TABLE = (
    # Stable Diffusion
    TextLayers(re.compile(r"\.attn2\.to_[kv]\."), re.compile(r"\.attn2\."), door=False),
    # Flux.1, Chroma, Qwen-Image
    TextLayers(
        re.compile(r"^diffusion_model\.txt_in\.weight$"),
        re.compile(
            r"^diffusion_model\.(double_blocks\.\d+\.(img|txt)_attn|single_blocks\.\d+\.linear[12]|transformer_blocks\.\d+\.attn)\."
        ),
        door=True,
    ),
    # Lumina 2, Z-Image
    TextLayers(
        re.compile(r"^diffusion_model\.cap_embedder\.1\.weight$"),
        re.compile(r"^diffusion_model\.(layers|noise_refiner|context_refiner)\.\d+\.attention\."),
        door=True,
    ),
)

# The norm [d] that text states pass before the door, in the models that have one, and its epsilon.
NORMS = {"diffusion_model.cap_embedder.0.weight": 1e-5, "diffusion_model.txt_norm.weight": 1e-6}


def reads_text(key: str) -> bool:
    """Whether a parameter, by its canonical name, is multiplied with text states."""
    return any(row.reads.search(key) for row in TABLE)


def in_attention(key: str) -> bool:
    """Whether a parameter belongs to a layer in which the picture meets the text."""
    return any(row.attention.search(key) for row in TABLE)


def is_door(key: str) -> bool:
    """Whether a parameter is the one matrix by which all text enters."""
    return any(row.door and row.reads.search(key) for row in TABLE)
