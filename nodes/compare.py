"""*Compare*: pictures before and after, side by side with labels, as one IMAGE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image, ImageDraw, ImageFont

from eraser_core.errors import RequestError

from .host import schema
from .host.schema import checked, node_schema

GAP = 4
LABEL = 0.11  # of a picture's height, at least 14 pixels
NAMES = ("before", "after", "third", "fourth")


class Compare(io.ComfyNode):
    """A grid with one row a batch of pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "Compare",
            "Compare",
            "Puts up to four batches of pictures under each other, each row with its label: before, after, after with the "
            "hidden prompt.",
            [
                *(
                    io.Image.Input(name, optional=i > 1, tooltip=f"Row {i + 1}: a batch of pictures.")
                    for i, name in enumerate(NAMES)
                ),
                io.String.Input(
                    "labels",
                    default="before | after | with the hidden prompt",
                    tooltip="One label a row, separated by bars.",
                ),
            ],
            [io.Image.Output(display_name="IMAGE", tooltip="One picture with all rows.")],
            aliases=(*schema.ALIASES, "grid", "before", "after"),
        )

    @classmethod
    @checked
    def execute(cls, labels: str, **rows: Any) -> io.NodeOutput:
        given = [check_pictures(name, rows[name]) for name in NAMES if rows.get(name) is not None]
        texts = [part.strip() for part in labels.split("|")]
        return io.NodeOutput(grid(given, [*texts, *[""] * len(given)][: len(given)]))


def check_pictures(name: str, batch: torch.Tensor) -> torch.Tensor:
    """The batch [b, h, w, 1, 3 or 4] as it is; RequestError, with the input's name, when it is none."""
    if batch.dim() != 4 or batch.shape[-1] not in (1, 3, 4):
        raise RequestError(
            f"{name} has the shape {tuple(batch.shape)}: pictures are (how many, height, width, 1, 3 or 4 colours)"
        )
    if batch.numel() == 0:
        raise RequestError(f"{name} holds no picture: connect a batch that does")
    if not bool(batch.isfinite().all()):
        raise RequestError(f"{name} holds pixels that are no numbers: the model that drew them failed, draw them again")
    return batch


def grid(rows: list[torch.Tensor], labels: list[str]) -> torch.Tensor:
    """[1, h, w, 3] of batches [b, h, w, 3 or 4]: each row has the first row's picture size, missing places are white."""
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    band = max(14, round(LABEL * height))
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, len(rows) * (height + GAP + band) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=band * 0.75)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = GAP + i * (height + GAP + band)
        draw.text((GAP, top), label, "black", font)
        for j, picture in enumerate(row):
            sheet.paste(as_pil(picture).resize((width, height)), (GAP + j * (width + GAP), top + band))
    return as_tensor([sheet])


def as_pil(picture: torch.Tensor) -> Image.Image:
    """RGB of [h, w, 1, 3 or 4] in [0, 1]; an alpha channel is laid on white."""
    values = picture.detach().float().cpu().clamp(0, 1)
    if values.shape[-1] == 4:
        values = values[..., :3] * values[..., 3:] + 1 - values[..., 3:]
    if values.shape[-1] == 1:
        values = values.expand(*values.shape[:-1], 3)
    return Image.fromarray((values.numpy() * 255).round().astype(np.uint8))


def as_tensor(pictures: list[Image.Image]) -> torch.Tensor:
    """[b, h, w, 3] float32 in [0, 1] of pictures of one size."""
    return torch.stack([torch.from_numpy(np.array(p.convert("RGB"), dtype=np.float32) / 255) for p in pictures])
