"""A bar for a phase of a run: on a terminal it moves, in a log it says a line a quarter."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)
QUARTERS = 4


class Phase:
    """One bar on a terminal. In a log file or a pipe, a plain line a quarter. A context; nothing is said unless `shown`."""

    def __init__(self, name: str, total: int, unit: str, shown: bool = True):
        self._name, self._total, self._unit, self._done = name, total, unit, 0
        self._began = time.monotonic()
        self._shown = shown
        live = shown and sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=name, unit=unit, dynamic_ncols=True) if live else None

    def __enter__(self) -> Phase:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def forward(self, count: int, said: str = "") -> None:
        """`count` more are done; `said` stands beside the bar."""
        before, self._done = self._done, self._done + count
        if self._bar is not None:
            self._bar.set_postfix_str(said, refresh=False)
            self._bar.update(count)
            return
        quarter = self._done * QUARTERS // max(self._total, 1)
        if self._shown and quarter > before * QUARTERS // max(self._total, 1):
            spent = time.monotonic() - self._began
            line = f"{self._name}: {self._done} of {self._total} {self._unit}s, {spent:.0f} s"
            log.info("%s", f"{line}, {said}" if said else line)

    def close(self) -> None:
        """The bar stays as it is."""
        if self._bar is not None:
            self._bar.close()
