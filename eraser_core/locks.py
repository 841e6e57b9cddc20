"""One writer at a time: a lock file that a killed process lets go of."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import OutputError

LOCK = ".lock"  # in a folder that a run writes to


@contextmanager
def locked(path: Path, what: Path, wait: float = 0.0) -> Iterator[None]:
    """The lock file at `path` for this process alone; OutputError while another one writes to `what`.

    `wait` is how many seconds the other one is given.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):  # a lock that is there already opens, and the results would fail
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        lock.acquire(timeout=wait)
    except Timeout as error:
        raise OutputError(f"another run is writing to {what}: wait for it, or choose another place") from error
    except OSError as error:
        raise OutputError(f"cannot write to {what}: {error.strerror}; choose a folder that you can write to") from error
    try:
        yield
    finally:
        with suppress(OSError):  # while it is ours: later it may be another run's. Windows keeps an open file
            path.unlink()
        lock.release()
