"""The folder of a run: what lies in it, and who may write there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .. import records
from ..erasure import Erasure
from ..errors import FileFormatError, OutputError, RequestError
from ..files import sweep, write_json
from ..locks import LOCK, locked
from ..run_files import PRIVATE, Results, results
from .said import command

PICTURE, METRICS, RUN, CHECKPOINT = "before_after.png", "metrics.json", "run.json", f"{PRIVATE}/checkpoint.safetensors"
OLD = ("erasure", "hidden_prompt")  # what every run called its two files before they had the concept's name
NOT_KEPT = {"out", "resume", "force", "key_seed", "command", "device", "switches"}


def of_run(erasure: Path) -> bool:
    """Whether an erasure file lies in the folder of the run that made it, under the name that it got there."""
    return erasure.stem == OLD[0] or (erasure.parent / RUN).is_file()


def earlier(out: Path) -> list[str]:
    """The names of the results that runs into this folder have left, as far as the last one wrote them down."""
    try:
        record = records.read(records.RunRecord, records.read_json(out / RUN), out / RUN)
    except FileFormatError:
        return []
    named = [results(out, record.concept or []).name, *(results(out, [name]).name for name in record.replaces)]
    return list(dict.fromkeys(named))


def claim(out: Path | None, force: bool) -> Path:
    """The folder to write results to; OutputError if it holds something and `force` is not set."""
    if out is None:
        raise RequestError("name a folder for the results: --out DIR")
    file = next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None)
    if file is not None:
        raise OutputError(f"{file} is a file: choose a folder for the results")
    if out.is_dir() and _holds_something(out) and not force:
        if (out / CHECKPOINT).is_file():
            again = command("erase", "--resume", out)
            raise OutputError(f"{out} holds an interrupted run: go on with `{again}`, or begin anew with --force")
        raise OutputError(f"{out} is in use: choose another folder, or replace its results with --force")
    return out


def _holds_something(out: Path) -> bool:
    """Whether anything would be lost: a run that was killed before its first checkpoint leaves nothing worth keeping."""
    left = (RUN, LOCK)
    return any(p.is_file() and p.name not in left and not p.name.endswith(".part") for p in out.rglob("*"))


@contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder for this process alone; OutputError while another one writes there. A killed process lets go of it.

    What a killed one left half-written is removed.
    """
    with locked(out / LOCK, out):
        sweep(out)
        try:
            yield
        finally:
            with suppress(OSError):  # it holds something, or is not there
                (out / PRIVATE).rmdir()


def keep_arguments(out: Path, args: argparse.Namespace) -> None:
    """Write what `--resume` needs again, and drop another run's checkpoint, which these arguments do not fit.

    The key seed is not in it: it is in the checkpoint alone.
    """
    (out / CHECKPOINT).unlink(missing_ok=True)
    kept: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in NOT_KEPT}
    write_json(out / RUN, kept)


def replace_erasure(to: Results, erasure: Erasure, names: Sequence[str]) -> None:
    """Write an erasure; no picture and no figure of an earlier one, which may have one of the other `names`, lies beside it.

    It is whole on the disk before they go, and they go before it takes its place: whoever is killed in between is left
    with the earlier erasure and its hidden prompt, from which the figures can be made again.
    """
    whole = to.out / f".{to.erasure.name}.whole.part"
    try:
        erasure.save(whole)
        figures = [path for name in (to.name, OLD[0], *names) for path in to.out.glob(f"{name}.evaluation*")]
        for path in (to.out / PICTURE, to.out / METRICS, *figures):
            path.unlink(missing_ok=True)
        whole.replace(to.erasure)
    finally:
        whole.unlink(missing_ok=True)


def remove_earlier(to: Results, names: Sequence[str]) -> None:
    """Remove earlier results of other names: those of concepts that were erased into this folder before."""
    others = [Results(to.out, name) for name in names]
    pairs = [(to.out / f"{OLD[0]}.safetensors", to.out / f"{OLD[1]}.safetensors")]
    for erasure, prompt in [*pairs, *((other.erasure, other.prompt) for other in others)]:
        if erasure.name.lower() != to.erasure.name.lower():  # many disks take Church and church for one file
            erasure.unlink(missing_ok=True)
            prompt.unlink(missing_ok=True)


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
