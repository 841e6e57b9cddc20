"""The folder of a run: what lies in it, and who may write there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import records
from ..erasure import Erasure
from ..errors import FileFormatError, OutputError, RequestError
from ..files import sweep, write_json
from ..locks import LOCK, locked

ERASURE, PROMPT, PICTURE = "erasure.safetensors", "hidden_prompt.safetensors", "before_after.png"
METRICS, CHECKPOINT, RUN = "metrics.json", "checkpoint.safetensors", "run.json"
NOT_KEPT = {"out", "resume", "force", "key_seed", "command", "device"}


def claim(out: Path | None, force: bool) -> Path:
    """The folder to write results to; OutputError if it holds something and `force` is not set."""
    if out is None:
        raise RequestError("name a folder for the results: --out DIR")
    file = next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise OutputError(f"{file} is a file: choose a folder for the results")
    if out.is_dir() and _holds_something(out) and not force:
        if (out / CHECKPOINT).is_file():
            raise OutputError(f"{out} holds an interrupted run: go on with --resume {out}, or begin anew with --force")
        raise OutputError(f"{out} is in use: choose another folder, or replace its results with --force")
    return out


def _holds_something(out: Path) -> bool:
    """Whether anything would be lost: a run that was killed before its first checkpoint leaves nothing worth keeping."""
    left = (RUN, LOCK)
    return any(path.name not in left and not path.name.endswith(".part") for path in out.iterdir())


@contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder for this process alone; OutputError while another one writes there. A killed process lets go of it.

    What a killed one left half-written is removed.
    """
    with locked(out / LOCK, out):
        sweep(out)
        yield


def keep_arguments(out: Path, args: argparse.Namespace) -> None:
    """Write what `--resume` needs again, and drop another run's checkpoint, which these arguments do not fit.

    The key seed is not in it: it is in the checkpoint alone.
    """
    (out / CHECKPOINT).unlink(missing_ok=True)
    kept: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in NOT_KEPT}
    write_json(out / RUN, kept)


def replace_erasure(out: Path, erasure: Erasure) -> None:
    """Put an erasure in the place of an earlier one, of which no picture and no figure may lie beside it.

    It is whole on the disk before they go, and they go before it takes its place: whoever is killed in between is left
    with the earlier erasure and its hidden prompt, from which the figures can be made again.
    """
    whole = out / f".{ERASURE}.whole.part"
    try:
        erasure.save(whole)
        for path in (out / PICTURE, out / METRICS, *out.glob(f"{Path(ERASURE).stem}.evaluation*")):
            path.unlink(missing_ok=True)
        whole.replace(out / ERASURE)
    finally:
        whole.unlink(missing_ok=True)


def resumed(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of the interrupted run in `args.resume`."""
    run = args.resume / RUN
    if run.is_file() and not (args.resume / CHECKPOINT).is_file() and not _holds_something(args.resume):
        raise OutputError(
            f"the run in {args.resume} was stopped before its first checkpoint, nothing is lost: begin it again with the "
            "command that began it"
        )
    if not (args.resume / CHECKPOINT).is_file() or not run.is_file():
        raise OutputError(f"{args.resume} holds no interrupted run: give the folder that Ctrl-C left behind")
    todo = "begin anew with --force"
    kept = records.read_json(run, todo)
    if not isinstance(kept, dict) or set(kept) - set(vars(args)):
        raise FileFormatError(f"{run} does not hold the arguments of a run; {todo}")
    records.read(records.RunRecord, kept, run, todo)
    return argparse.Namespace(**{**vars(args), **kept, "out": args.resume})
