"""From a suite's name and the command's options to the suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...errors import RequestError
from ...models import Model
from ..pocket.suite import PocketSuite
from .artists import ARTISTS, ArtistSuite
from .i2p import I2PSuite
from .imagenette import ImagenetteSuite
from .items import Subject
from .suite import Suite


@dataclass(frozen=True)
class Asked:
    """The options of all suites; a suite reads its own. `weights` is the folder of the metrics' models."""

    images: int | None = None
    classes: int | None = None
    prompts: Path | None = None
    artists: tuple[str, ...] = ()
    weights: Path = Path("weights")
    reference: Path | None = None
    device: str = "cpu"


def build(name: str, model: Model, subjects: Sequence[Subject], asked: Asked) -> Suite:
    """The suite; RequestError says what it lacks."""
    if name == "pocket":
        if model.concepts is None or model.examiner.judge is None:
            raise RequestError(
                "the pocket suite needs a pocket model and its judge: give --model pocket or --model pocket-flow"
            )
        images, seed = 16 if asked.images is None else asked.images, model.examiner.suite_seed

        def encode(texts: Sequence[str]) -> Tensor:
            return model.denoiser.encode(texts).tokens

        judge = model.examiner.judge
        return PocketSuite(model.concepts, judge, encode, subjects, images=images, classes=asked.classes, seed=seed)
    if name == "imagenette":
        return ImagenetteSuite(subjects, 500 if asked.images is None else asked.images, asked.weights, asked.device)
    if name == "artists":
        images = 5 if asked.images is None else asked.images
        return ArtistSuite(subjects, asked.artists or ARTISTS, images, asked.weights, asked.device)
    if asked.prompts is None:
        raise RequestError("the suite i2p reads its prompts from a file: give the public CSV as --prompts FILE")
    return I2PSuite(subjects, asked.prompts, asked.images, asked.weights, asked.reference, asked.device)
