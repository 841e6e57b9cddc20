"""What a call says is looked at before anything is drawn or written."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..errors import OutputError, RequestError

LARGEST_SEED = 2**63 - 1
OF_PICTURES = (
    *("--guidance-scale", "--steps", "--suite-seed", "--key-seed", "--prediction", "--zero-snr", "--no-zero-snr"),
    *("--compute", "--memory", "--size", "--tokenizer", "--allow-download", "--no-check"),
)


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of a switch that takes a whole number in these bounds."""
    said = f"at least {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {said}")
        return value

    return parse


def real(least: float | None = None) -> Callable[[str], float]:
    """The type of a switch that takes a finite number, at least `least`."""
    said = "" if least is None else f" of at least {least:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (least is not None and value < least):
            raise argparse.ArgumentTypeError(f"{text!r} is no number{said}")
        return value

    return parse


seed = whole(0, LARGEST_SEED)


def named(words: Iterable[str], switch: str) -> None:
    """RequestError where one of the words is blank."""
    if any(not word.strip() for word in words):
        raise RequestError(f"a word of {switch} is empty: write what is meant, or leave the word out")


def fits(excess: Callable[[str], int], prompts: Sequence[str]) -> None:
    """RequestError where a prompt is longer than the model reads; `excess` counts the tokens that do not fit."""
    for prompt in prompts:
        beyond = excess(prompt)
        if beyond > 0:
            shown = prompt if len(prompt) < 60 else prompt[:57] + "..."
            raise RequestError(f"{shown!r} is {beyond} tokens longer than the model's text encoder reads: shorten it")


def resumes_alone(switches: Iterable[str]) -> None:
    """RequestError where a run that is resumed is asked for something else too: it goes on as it was begun.

    The device may be another one. `switches` are those of the call, as they were typed.
    """
    for switch in switches:
        if not any(known.startswith(switch) for known in ("--resume", "--device")):
            raise RequestError(
                f"{switch} beside --resume: the run goes on as it was begun. Leave {switch} out, or begin anew"
            )


def only_reads(switches: Iterable[str], model: str, pictures: bool) -> None:
    """RequestError for a switch that has no meaning where a model's text alone is read; `pictures`: some are asked for."""
    for switch in switches:
        if any(known.startswith(switch) for known in (*OF_PICTURES, *(("--images",) if pictures else ()))):
            raise RequestError(
                f"{switch} says how a model is fetched, drawn with or trained, and of {model} the text alone is read: leave {switch} out"
            )


def writable_file(path: Path | None) -> None:
    """OutputError where a file cannot be put there: a folder has its name, or something above it is no folder."""
    if path is None:
        return
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it")
    above = next((p for p in path.parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise OutputError(f"{above} is a file: choose a folder that exists, or a new one")
