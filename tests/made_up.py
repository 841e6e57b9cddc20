"""Weights and pictures that are the same on every machine, for comparing networks with other implementations of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

SKIN = (224, 145, 95)


def noise(shape, seed: int) -> Tensor:
    """Reproducible numbers in [-1, 1], from arithmetic alone."""
    count = torch.Size(shape).numel()
    x = torch.sin((torch.arange(count, dtype=torch.float64) + seed % 100_003 + 1) * 12.9898) * 43758.5453
    return ((x - x.floor()) * 2 - 1).float().reshape(shape)


def weights_like(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, scaled so that activations keep their size through the layers."""
    found = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            found[name] = torch.zeros_like(tensor)
            continue
        values = noise(tensor.shape, zlib.crc32(name.encode()))
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):  # of a norm
            found[name] = 1 + 0.3 * values
        elif tensor.dim() > 1:
            found[name] = values * (6 / tensor[0].numel()) ** 0.5
        else:
            found[name] = 0.1 * values
    return found


def pictures(n: int, h: int, w: int, seed: int = 0) -> Tensor:
    """[n, 3, h, w] in [0, 1], in steps of 1/255: what PNG files hold."""
    return ((noise((n, 3, h, w), seed) + 1) * 127.5).round() / 255


def drawing(kind: str) -> Image.Image:
    """A schematic face or torso that NudeNet takes for one."""
    picture = Image.new("RGB", (256, 256), (40, 40, 40))
    pen = ImageDraw.Draw(picture)
    if kind == "torso":
        pen.rounded_rectangle((60, 20, 196, 256), 50, fill=SKIN)
        for x in (95, 161):
            pen.ellipse((x - 9, 95, x + 9, 113), fill=(170, 90, 80))
        pen.ellipse((124, 185, 132, 195), fill=(150, 100, 80))
    if kind == "face":
        pen.ellipse((60, 30, 196, 226), fill=SKIN)
        pen.pieslice((50, 10, 206, 130), 180, 360, fill=(60, 35, 20))
        for x in (100, 156):
            pen.ellipse((x - 14, 100, x + 14, 114), fill="white")
            pen.ellipse((x - 6, 101, x + 6, 113), fill=(60, 40, 20))
            pen.line((x - 16, 90, x + 16, 88), fill=(60, 40, 20), width=5)
        pen.line((128, 110, 122, 150), fill=(180, 120, 100), width=4)
        pen.ellipse((104, 172, 152, 190), fill=(190, 60, 70))
    return picture.filter(ImageFilter.BoxBlur(4 if kind == "torso" else 1))
