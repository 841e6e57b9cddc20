"""Weights and pictures that are the same on every machine, for comparing networks with other implementations of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor


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
