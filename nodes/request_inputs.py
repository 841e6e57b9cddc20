"""The inputs that every node that erases has, in one wording."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from eraser_core.precision import DTYPES

from .host.schema import field

EMPTY_RETAIN = (
    "Empty: the list of artists, objects or scenes that fits the concept; on the pocket model half of what it draws. A dash "
    "(-) keeps nothing."
)


def network() -> list[Any]:
    """model and clip."""
    return [
        io.Model.Input("model", tooltip="The model to erase from: SD1.x, SD2.x, SDXL or pocket. It is not changed."),
        io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
    ]


def words() -> list[Any]:
    """concepts and anchor."""
    return [
        io.String.Input(
            "concepts",
            multiline=True,
            default="church",
            tooltip="What to erase, one concept a line. Synonyms after a bar: church | chapel",
        ),
        io.String.Input(
            "anchor",
            multiline=True,
            default="",
            tooltip="What is drawn instead, one a line in the same order, such as castle. Empty: the nearest concept to "
            "retain is chosen.",
        ),
    ]


def precision() -> Any:
    """Of the saved file."""
    return field(
        io.Combo.Input,
        "precision",
        options=list(DTYPES),
        default="fp16",
        tooltip="Precision of the saved file, and so of the sanitized model.",
        advanced=True,
    )


def filename_prefix() -> Any:
    """Where the file goes."""
    return field(
        io.String.Input,
        "filename_prefix",
        default="loras/erased",
        tooltip="Where the erasure is saved, below ComfyUI's output folder. Files in output/loras appear in LoRA lists.",
        advanced=True,
    )
