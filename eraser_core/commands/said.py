"""Commands as they are printed: complete, and quoted for a shell."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path

# What says how a model is read: whoever goes on with a model has to say it again.
_OF_MODEL = ("model", "device", "prediction", "compute", "memory", "size", "tokenizer")
_USUAL = {"model": "pocket", "device": "auto", "compute": "auto", "memory": "normal"}


def command(*words: str | Path) -> str:
    """A command of this program, to be copied."""
    return shlex.join(["python", "-m", "eraser_core", *map(str, words)])


def switch(name: str, values: Iterable[str | Path]) -> list[str | Path]:
    """A switch with its words; nothing where there are none."""
    found = list(values)
    return [name, *found] if found else []


def of_model(args: argparse.Namespace) -> list[str | Path]:
    """The switches that name the model of a run, as far as they are not the usual ones."""
    found: list[str | Path] = []
    for name in _OF_MODEL:
        value = getattr(args, name)
        if value is not None and value != _USUAL.get(name):
            found += [f"--{name}", str(value)]
    if args.zero_snr is not None:
        found.append("--zero-snr" if args.zero_snr else "--no-zero-snr")
    return [*found, "--allow-download"] if args.allow_download else found
