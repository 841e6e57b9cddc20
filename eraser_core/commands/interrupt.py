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

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    def check() -> None:
        if asked:
            raise Interrupted

    with _answered_by(ask):
        yield check


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and a termination raise KeyboardInterrupt, so that what is half-written is removed."""
    with _answered_by(signal.default_int_handler):
        yield


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
