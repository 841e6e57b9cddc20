"""Where a network reads its text: the parameters that text states meet first, one row an architecture, told by their names.

Names are ComfyUI's. A UNet reads the text anew in every cross-attention block, by K and V. A transformer that puts text and
picture into one sequence reads it once, by one matrix at the door.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class TextLayers:
    """`reads` finds the weights that text states are multiplied with, `attention` the parameters of all layers in which
    text and picture meet. `door`: a matrix of it is neither K nor V alone; in some models the text states pass a norm first.

    `first` is the network that makes of the text
    encoder's states those that are read, and `entry` the weight in it whose width the text encoder's states have. `pooled`
    finds the weight by which one vector for the whole text enters beside them.
    """

    reads: re.Pattern[str]
    attention: re.Pattern[str]
    door: bool
    first: str = ""
    entry: str = ""
    pooled: re.Pattern[str] | None = None


STABLE_DIFFUSION = TextLayers(re.compile(r"\.attn2\.to_[kv]\."), re.compile(r"\.attn2\."), door=False)
TABLE = (
    STABLE_DIFFUSION,
    # Flux.1, Flux.2, Chroma, Qwen-Image
    TextLayers(
        re.compile(r"^diffusion_model\.txt_in\.weight$"),
        re.compile(
            r"^diffusion_model\.(double_blocks\.\d+\.(img|txt)_attn|single_blocks\.\d+\.linear[12]|transformer_blocks\.\d+\.attn)\."
        ),
        door=True,
        pooled=re.compile(r"^diffusion_model\.vector_in\.in_layer\.weight$"),
    ),
    # Stable Diffusion 3 and 3.5
    TextLayers(
        re.compile(r"^diffusion_model\.context_embedder\.weight$"),
        re.compile(r"^diffusion_model\.joint_blocks\.\d+\.(context|x)_block\.attn\."),
        door=True,
        pooled=re.compile(r"^diffusion_model\.y_embedder\.mlp\.0\.weight$"),
    ),
    # Lumina 2, Z-Image
    TextLayers(
        re.compile(r"^diffusion_model\.cap_embedder\.1\.weight$"),
        re.compile(r"^diffusion_model\.(layers|noise_refiner|context_refiner)\.\d+\.attention\."),
        door=True,
    ),
    # Wan
    TextLayers(
        re.compile(r"^diffusion_model\.text_embedding\.0\.weight$"),
        re.compile(r"^diffusion_model\.blocks\.\d+\.cross_attn\."),
        door=True,
    ),
    # PixArt: K and V are one matrix a block
    TextLayers(
        re.compile(r"^diffusion_model\.blocks\.\d+\.cross_attn\.kv_linear\.weight$"),
        re.compile(r"^diffusion_model\.blocks\.\d+\.cross_attn\."),
        door=True,
        first="y_embedder.y_proj",
        entry="fc1.weight",
    ),
    # Anima
    TextLayers(
        re.compile(r"^diffusion_model\.blocks\.\d+\.cross_attn\.[kv]_proj\.weight$"),
        re.compile(r"^diffusion_model\.blocks\.\d+\.cross_attn\."),
        door=False,
        first="llm_adapter",
        entry="blocks.0.cross_attn.k_proj.weight",
    ),
)

# The norm [d] that text states pass before the door, in the models that have one, and its epsilon.
NORMS = {"diffusion_model.cap_embedder.0.weight": 1e-5, "diffusion_model.txt_norm.weight": 1e-6}


def row_of(keys: Iterable[str]) -> TextLayers | None:
    """The architecture's row, told by its parameters' canonical names; None where none of them reads text."""
    return next((row for key in keys for row in TABLE if row.reads.search(key)), None)


def reads_text(key: str) -> bool:
    """Whether a parameter, by its canonical name, is multiplied with text states."""
    return any(row.reads.search(key) for row in TABLE)


def reads_pooled(key: str) -> bool:
    """Whether a parameter, by its canonical name, is multiplied with the one vector that stands for a whole text."""
    return any(row.pooled is not None and row.pooled.search(key) for row in TABLE)


def in_attention(key: str) -> bool:
    """Whether a parameter belongs to a layer in which the picture meets the text."""
    return any(row.attention.search(key) for row in TABLE)


def is_door(key: str) -> bool:
    """Whether a parameter reads text and is neither K nor V alone."""
    return reads_pooled(key) or any(row.door and row.reads.search(key) for row in TABLE)
