"""The pocket suite: the slides' three tasks on the pocket model, by its own judge.

Its figures stand in for the big backbones' and carry the judge's name: category rate and not NER, judge-CLIP and not
CLIP score, judge-LPIPS and not LPIPS, judge-FID and not FID.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...pocket.concepts import Concepts
from ...pocket.judge import Judge
from ...pocket.judge_clip import Encode
from ..report.tables import Table
from ..suites.items import Subject
from ..suites.results import Results
from ..suites.scorers import Metric, judge, judge_clip, judge_distance
from .pictures import PocketPictures
from .tables import tables


class PocketSuite(PocketPictures):
    """`images` pictures a class; `classes` kept objects, drawn by the seed, None for all of them."""

    explicit, reference = False, None

    def __init__(
        self,
        concepts: Concepts,
        network: Judge,
        encode: Encode,
        subjects: Sequence[Subject],
        *,
        images: int = 16,
        classes: int | None = None,
        seed: int = 0,
    ):
        super().__init__(concepts, network, subjects, images=images, classes=classes, seed=seed)
        self._encode = encode

    def metrics(self) -> list[Metric]:
        return [judge(self.judge), judge_clip(self.judge, self._encode), judge_distance(self.judge)]

    def tables(self, results: Results) -> list[Table]:
        return tables(self, results)
