"""Real drawings of some objects, shipped beside the pocket model: what an attack may learn from."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FOLDER = Path(__file__).resolve().parent
SIZE = 64


@lru_cache(maxsize=1)
def _sheet() -> tuple[Tensor, tuple[str, ...]]:
    with Image.open(FOLDER / "drawings.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    names = json.loads((FOLDER / "drawings.json").read_text(encoding="utf-8"))["objects"]
    return pixels.view(len(names), SIZE, -1, SIZE, 3).permute(0, 2, 4, 1, 3).float() / 255, tuple(names)


def drawn_by_hand() -> tuple[str, ...]:
    """The objects whose drawings are there."""
    return _sheet()[1]


def drawings(name: str) -> Tensor:
    """[styles, 3, 64, 64] in [0, 1]: an object's drawing in every style. KeyError when there is none."""
    images, names = _sheet()
    if name not in names:
        raise KeyError(name)
    return images[names.index(name)]
