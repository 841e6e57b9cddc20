"""Ctrl-C and terminations: what they do while a command loads, writes and trains."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, raised between two steps."""


@contextmanager
def stops_between_steps() -> Iterator[Callable[[], None]]:
    """Yields a check that raises Interrupted once Ctrl-C or a termination was asked for. Asked twice, it stops at once."""
    asked: list[int] = []
    twice: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            twice.append(number)
            raise KeyboardInterrupt
        asked.append(number)

    def check() -> None:
        if asked:
            raise Interrupted

    with _answered_by(ask), _as_itself(twice):
        yield check


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and a termination raise KeyboardInterrupt, so that what is half-written is removed."""
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    with _answered_by(stop), _as_itself(asked):
        yield


@contextmanager
def _as_itself(asked: list[int]) -> Iterator[None]:
    """A native library that is interrupted as it calls back into Python (safetensors) raises an error of its own."""
    try:
        yield
    except Exception as error:
        if not asked:
            raise
        raise KeyboardInterrupt from error


def die_at_once() -> None:
    """From here on Ctrl-C and a termination end the process without a word, but where a command says otherwise."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _answered_by(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python takes signals there alone
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
