"""The folder that is shared: it takes its place whole, and an earlier one goes only then."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import OutputError
from ..evaluation.suites.manifest import slug
from ..files import write_bytes
from ..locks import locked

CARD, PICTURE, WORKFLOW = "README.md", "before_after.png", "apply_a_shared_erasure.json"
MARK = "<!-- written by concept-eraser share -->"  # in the card: what share wrote, share may replace
TENSORS, FIGURES = ".safetensors", ".evaluation.json"


def grid_name(stem: str, suite: str) -> str:
    """The sample grid of a suite; its name comes from a file and may be anything."""
    return f"{stem}.evaluation.{slug(suite)}.png"


def claim(out: Path, force: bool) -> None:
    """OutputError unless the folder is free or, with `force`, holds what an earlier sharing wrote and nothing else."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: choose a folder for what is shared")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not force:
        raise OutputError(f"{out} is in use: choose another folder, or replace an earlier shared one with --force")
    foreign = _foreign(out)
    if foreign:
        raise OutputError(
            f"{out} holds {foreign}, which share did not write and will not remove: choose another folder"
        )


def _foreign(out: Path) -> str:
    """The first thing in a folder that no sharing wrote."""
    card = out / CARD
    if not card.is_file() or MARK not in card.read_text(encoding="utf-8", errors="replace"):
        return CARD if card.exists() else next(p.name for p in sorted(out.iterdir()))
    stems = [p.name.removesuffix(TENSORS) for p in sorted(out.glob("*" + TENSORS))]
    stem = stems[0] if stems else ""
    known = {CARD, PICTURE, WORKFLOW, stem + TENSORS, stem + FIGURES}
    for path in sorted(out.iterdir()):
        grid = path.name.startswith(f"{stem}.evaluation.") and path.suffix == ".png"
        if not path.is_file() or not (grid or path.name in known):
            return path.name
    return ""


@contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder for this process alone; what a killed one left is put right first."""
    with locked(out.with_name(f".{out.name}.lock"), out):
        with _in_words(out):
            _mend(out)
        yield


@contextmanager
def _in_words(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}; choose a folder that you can write to") from error


def place(out: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of these files; OutputError where that cannot be, and then everything is as it was.

    To be called while `held`. A killed process leaves the earlier folder whole or the new one. Where the system cannot
    let two folders change places in one step, a kill between two renames leaves the earlier one under a passing name;
    `held` puts it back.
    """
    new = _passing(out, "new")
    with _in_words(out):
        try:
            for name, data in files.items():
                write_bytes(new / name, data)
            _put(new, out)
        finally:
            _remove(new)


def _passing(out: Path, what: str) -> Path:
    return out.with_name(f".{out.name}.{what}.part")


def _put(new: Path, out: Path) -> None:
    if out.exists() and not any(out.iterdir()):
        out.rmdir()  # Windows renames to free names alone
    if not out.exists():
        new.replace(out)
        return
    if swapped(new, out):
        return
    earlier = _passing(out, "earlier")
    try:
        out.replace(earlier)
        new.replace(out)
    finally:
        if not out.exists():
            earlier.replace(out)
    _remove(earlier)


def swapped(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; False where the system or the disk's format cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _mend(out: Path) -> None:
    earlier = _passing(out, "earlier")
    if earlier.is_dir() and not out.exists():
        earlier.replace(out)
    for left in (earlier, _passing(out, "new")):
        _remove(left)


def _remove(folder: Path) -> None:
    try:
        _empty(folder)
    except KeyboardInterrupt:  # whoever stops the run as it tidies up wants it tidy all the same
        _empty(folder)
        raise


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
