"""Progress of a run: each phase has its own bar, and its own time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ..evaluation.examiner import Examiner
from ..training import Step

log = logging.getLogger(__name__)
QUARTERS = 4


class Phase:
    """One bar on a terminal. In a log file or a pipe, a plain line a quarter."""

    def __init__(self, name: str, total: int, unit: str):
        self._name, self._total, self._unit, self._done = name, total, unit, 0
        self._began = time.monotonic()
        self._bar = tqdm(total=total, desc=name, unit=unit, dynamic_ncols=True) if sys.stderr.isatty() else None

    def forward(self, count: int, said: str = "") -> None:
        """`count` more are done; `said` stands beside the bar."""
        before, self._done = self._done, self._done + count
        if self._bar is not None:
            self._bar.set_postfix_str(said, refresh=False)
            self._bar.update(count)
            return
        quarter = self._done * QUARTERS // max(self._total, 1)
        if quarter > before * QUARTERS // max(self._total, 1):
            spent = time.monotonic() - self._began
            line = f"{self._name}: {self._done} of {self._total} {self._unit}s, {spent:.0f} s"
            log.info("%s", f"{line}, {said}" if said else line)

    def close(self) -> None:
        """The bar stays as it is."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def drawing(examiner: Examiner, name: str, total: int) -> Iterator[None]:
    """A bar over the pictures that an examiner draws within."""
    phase = Phase(name, total, "picture")
    before, examiner.on_drawn = examiner.on_drawn, phase.forward
    try:
        yield
    finally:
        examiner.on_drawn = before
        phase.close()


class Training:
    """The two phases of a training: pictures half drawn to train on, then the steps.

    `pictures` is how many z_t come into the pools; 0 for a resumed run, which has them and goes on from its own step.
    """

    def __init__(self, pictures: int, steps: int):
        self._pictures, self._steps, self._at = pictures, steps, 0
        self._phase: Phase | None = None
        self._filling = True

    def __enter__(self) -> Self:
        if self._pictures:
            self._phase = Phase("preparing", self._pictures, "latent")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._phase is not None:
            self._phase.close()

    def fill(self, count: int) -> None:
        """`count` more z_t are in the pools."""
        if self._phase is not None:
            self._phase.forward(count)

    def step(self, step: Step) -> None:
        """A step is done."""
        if self._filling:
            if self._phase is not None:
                self._phase.close()
            # The bar begins where a resumed run goes on, so that its time left is that of the steps still to come.
            self._filling, self._at = False, step.step - 1
            self._phase = Phase("training", self._steps - self._at, "step")
        if self._phase is not None:
            self._phase.forward(step.step - self._at, ", ".join(f"{k} {v:.4f}" for k, v in step.losses.items()))
        self._at = step.step
