"""Progress of a run: each phase has its own bar, and its own time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ..evaluation.examiner import Examiner
from ..progress import Phase
from ..training import Step


@contextmanager
def drawing(examiner: Examiner, name: str, total: int) -> Iterator[None]:
    """A bar over the pictures that an examiner draws within."""
    with Phase(name, total, "picture") as phase:
        before, examiner.on_drawn = examiner.on_drawn, phase.forward
        try:
            yield
        finally:
            examiner.on_drawn = before


class Training:
    """The two phases of a training: pictures half drawn to train on, then the steps.

    `pictures` is how many z_t come into the pools; 0 for a resumed run, which has them and goes on from its own step.
    """

    def __init__(self, pictures: int, steps: int):
        self._pictures, self._steps, self._at = pictures, steps, 0
        self._phase: Phase | None = None
        self._filling = True

    def __enter__(self) -> Training:
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
