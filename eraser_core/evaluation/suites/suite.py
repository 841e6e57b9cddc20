"""A suite: pictures to draw, metrics that score them, and the slides' tables of the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ..metrics.fid import Extractor
from ..report.tables import Table
from .items import Pictures
from .results import Results
from .scorers import Metric


class Suite(Pictures, Protocol):
    """A protocol of the slides: its pictures, metrics and tables."""

    @property
    def explicit(self) -> bool:
        """Whether its pictures may be shown only where NudeNet sees nothing on them."""

    @property
    def reference(self) -> tuple[Path, Callable[[], Extractor]] | None:
        """A folder that FID compares with, and who looks at it."""

    def metrics(self) -> Sequence[Metric]:
        """What scores the pictures."""

    def tables(self, results: Results) -> Sequence[Table]:
        """The slides' tables of what was found."""
