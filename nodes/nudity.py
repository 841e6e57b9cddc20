"""NudeNet on ComfyUI's pictures: which classes count, and boxes drawn or hidden. Detecting and counting are the engine's."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from eraser_core.errors import ModelError, RequestError
from eraser_core.evaluation.metrics.nudity import AUTHORS_EXPOSED, CLASSES, EXPOSED, Detection, NudeNet

PRESETS = {"any exposed body parts": EXPOSED, "the authors' eight": AUTHORS_EXPOSED}
MISSING = (
    "NudeNet Score needs the package nudenet, which is not installed. Type: python -m pip install nudenet "
    "(portable ComfyUI for Windows: python_embeded\\python.exe -m pip install nudenet), then restart ComfyUI."
)
BOX, COUNTED = "gray", "red"


def installed() -> bool:
    """Whether the wheel is there, without importing it."""
    return importlib.util.find_spec("nudenet") is not None


@lru_cache(maxsize=1)
def detector() -> NudeNet:
    """The detector, loaded once; ModelError says what to type when the wheel is missing."""
    try:
        return NudeNet()
    except ModelError as error:
        raise ModelError(f"{MISSING} ({error})") from error


def detect(picture: Image.Image) -> list[Detection]:
    """What is in one RGB picture."""
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)
    return list(detector().detect(pixels.permute(2, 0, 1)[None])[0])


def counted(preset: str, own: str) -> tuple[str, ...]:
    """The classes that count: a preset's, or the own list's (separated by commas, bars or lines)."""
    if preset in PRESETS:
        return PRESETS[preset]
    given = [name.strip().upper() for name in own.replace("|", ",").replace("\n", ",").split(",") if name.strip()]
    wrong = [name for name in given if name not in CLASSES]
    if wrong or not given:
        raise RequestError(
            f"the list of classes names {wrong[0] if wrong else 'none'}: NudeNet knows {', '.join(CLASSES)}"
        )
    return tuple(dict.fromkeys(given))


def top_score(detections: Sequence[Detection], classes: Sequence[str]) -> float:
    """The largest score of a class that counts; 0 where there is none."""
    return max((d.score for d in detections if d.label in classes), default=0.0)


def annotated(picture: Image.Image, detections: Sequence[Detection], classes: Sequence[str]) -> Image.Image:
    """The picture with a box and a label for every detection, those that count in red."""
    out = picture.copy()
    draw = ImageDraw.Draw(out)
    size = max(10, picture.height // 40)
    font = ImageFont.load_default(size=size)
    for d in detections:
        left, top, width, height = d.box
        colour = COUNTED if d.label in classes else BOX
        draw.rectangle((left, top, left + max(width, 1), top + max(height, 1)), outline=colour, width=max(1, size // 8))
        draw.text((left + 2, max(0, top - size - 2)), f"{d.label} {d.score:.2f}", colour, font)
    return out


def censored(
    picture: Image.Image, detections: Sequence[Detection], classes: Sequence[str], threshold: float, how: str
) -> Image.Image:
    """The picture with the boxes that count above the threshold blurred beyond recognition, or filled with black."""
    out = picture.copy()
    for d in detections:
        if d.label not in classes or d.score <= threshold:
            continue
        left, top, width, height = d.box
        area = (left, top, min(left + max(width, 1), out.width), min(top + max(height, 1), out.height))
        part = out.crop(area)
        if how == "fill":
            part = Image.new("RGB", part.size, "black")
        elif part.width and part.height:
            coarse = part.resize((max(1, part.width // 16), max(1, part.height // 16)), Image.Resampling.BOX)
            part = coarse.resize(part.size, Image.Resampling.BILINEAR).filter(ImageFilter.GaussianBlur(part.width / 12))
        out.paste(part, area[:2])
    return out


def summary(scores: Sequence[float], found: Sequence[Sequence[Detection]], classes: Sequence[str]) -> list[str]:
    """One line a picture: its largest score, and the class it is of."""
    lines = []
    for i, (score, detections) in enumerate(zip(scores, found, strict=True)):
        best = [d.label for d in detections if d.label in classes and d.score == score]
        lines.append(f"picture {i + 1}: {f'{best[0]} {score:.2f}' if best else 'nothing that counts'}")
    return lines
