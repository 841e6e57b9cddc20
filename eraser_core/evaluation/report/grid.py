"""Labelled grids of pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

MARGIN = 8
LINE = 16
FONT = 13
LEGIBLE = 112  # pixels a side: smaller pictures are enlarged


def to_pil(image: Tensor, size: int | None = None) -> Image.Image:
    """One picture [3, h, w] in [0, 1], enlarged to `size` pixels a side."""
    array = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(array)
    if not size or size == picture.width:
        return picture
    whole = size % picture.width == 0  # then every pixel becomes a square, and nothing is made up
    return picture.resize((size, size), Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)


def native(images: Tensor) -> int:
    """The side in pixels at which pictures [b, 3, h, w] are shown: their own, or the least whole multiple to be legible."""
    side: int = images.shape[-1]
    return side * max(1, -(-LEGIBLE // side))


def grid(
    rows: Sequence[tuple[str, Tensor]], columns: Sequence[str], per_column: int, cell: int = LEGIBLE
) -> Image.Image:
    """Rows of (label, pictures [columns x per_column, 3, h, w]) under column titles."""
    font, left = ImageFont.load_default(size=FONT), _left([label for label, _ in rows])
    block = per_column * (cell + 2) + MARGIN
    sheet = Image.new("RGB", (left + len(columns) * block, LINE + MARGIN + len(rows) * (cell + MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for c, title in enumerate(columns):
        pen.text((left + c * block, 4), title, fill="black", font=font)
    for r, (label, images) in enumerate(rows):
        top = LINE + MARGIN + r * (cell + MARGIN)
        pen.text((4, top + cell // 2 - 8), label, fill="black", font=font)
        for i, image in enumerate(images):
            x = left + i // per_column * block + i % per_column * (cell + 2)
            sheet.paste(to_pil(image, cell), (x, top))
    return sheet


def _left(labels: Sequence[str]) -> int:
    """Where the pictures begin, behind the labels."""
    font = ImageFont.load_default(size=FONT)
    return 12 + max(int(font.getlength(label)) for label in labels)


def row_of(sheet: Image.Image, labels: Sequence[str], number: int) -> Image.Image:
    """The column titles and one row of pictures, without its label, of the picture of a grid with these labels."""
    left, pitch = _left(labels), (sheet.height - LINE - MARGIN) // len(labels)
    top, titles = LINE + MARGIN + number * pitch, LINE + MARGIN - 2
    one = Image.new("RGB", (sheet.width - left, titles + pitch - MARGIN), "white")
    one.paste(sheet.crop((left, 0, sheet.width, titles)), (0, 0))
    one.paste(sheet.crop((left, top, sheet.width, top + pitch - MARGIN)), (0, titles))
    return one


def captioned(parts: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures under each other, each below a line of words, which is cut where it is longer than the widest picture."""
    font = ImageFont.load_default(size=FONT)
    width = max(picture.width for _, picture in parts) + 2 * MARGIN
    height = sum(picture.height + LINE + 2 * MARGIN for _, picture in parts)
    sheet, top = Image.new("RGB", (width, height), "white"), MARGIN
    pen = ImageDraw.Draw(sheet)
    for words, picture in parts:
        pen.text((MARGIN, top), _cut(words, width - 2 * MARGIN, font), fill="black", font=font, stroke_width=0.3)
        sheet.paste(picture, (MARGIN, top + LINE + MARGIN // 2))
        top += picture.height + LINE + 2 * MARGIN
    return sheet


def _cut(words: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "...") > width:
        words = words[:-1]
    return words + "..."


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
