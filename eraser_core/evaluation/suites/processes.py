"""Several processes on one suite: Hugging Face accelerate's, where it started this one; else this one alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from ..optional import optional

T = TypeVar("T")
# The slower process may have hours to go when the faster waits; torch's default gives up after minutes.
PATIENCE = timedelta(days=7)


class Processes(Protocol):
    """Who works on this run. Results pass through the run's folder."""

    is_main: bool

    def share(self, work: Sequence[T]) -> list[T]:
        """This process's part of a list that all of them hold."""

    def wait(self) -> None:
        """Until all have come here."""

    def device(self, wanted: str) -> str:
        """This process's device, of the kind that the user named."""


class Alone:
    """One process."""

    is_main = True

    def share(self, work: Sequence[T]) -> list[T]:
        return list(work)

    def wait(self) -> None:
        return None

    def device(self, wanted: str) -> str:
        return wanted


class Launched:
    """One of the processes of `accelerate launch` (or torchrun), through accelerate's PartialState."""

    def __init__(self, cpu: bool) -> None:
        state = optional("accelerate", "a run of several processes", "accelerate").PartialState
        self._state: Any = state(cpu=cpu, timeout=PATIENCE)
        self.is_main = bool(self._state.is_main_process)

    def share(self, work: Sequence[T]) -> list[T]:
        with self._state.split_between_processes(list(work)) as mine:
            return list(mine)

    def wait(self) -> None:
        self._state.wait_for_everyone()

    def device(self, wanted: str) -> str:
        return f"cuda:{self._state.local_process_index}" if wanted == "cuda" else wanted


def processes(device: str) -> Processes:
    """Those that the launcher's environment names."""
    return Launched(cpu=device == "cpu") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
