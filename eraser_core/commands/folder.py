"""The folder of a run: what lies in it, and who may write there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import OutputError, RequestError
from ..files import write_json

ERASURE, PROMPT, PICTURE = "erasure.safetensors", "hidden_prompt.safetensors", "before_after.png"
METRICS, CHECKPOINT, RUN = "metrics.json", "checkpoint.safetensors", "run.json"
_NOT_KEPT = {"out", "resume", "force", "key_seed", "command", "device"}


def claim(out: Path | None, force: bool) -> Path:
    """The folder to write results to; OutputError if it holds something and `force` is not set."""
    if out is None:
        raise RequestError("name a folder for the results: --out DIR")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: choose a folder for the results")
    if out.is_dir() and any(out.iterdir()) and not force:
        if (out / CHECKPOINT).is_file():
            raise OutputError(f"{out} holds an interrupted run: go on with --resume {out}, or begin anew with --force")
        raise OutputError(f"{out} is in use: choose another folder, or replace its results with --force")
    return out


def keep_arguments(out: Path, args: argparse.Namespace) -> None:
    """Write what `--resume` needs again, and drop another run's checkpoint, which these arguments do not fit.

    The key seed is not in it: it is in the checkpoint alone.
    """
    (out / CHECKPOINT).unlink(missing_ok=True)
    kept: dict[str, Any] = {name: value for name, value in vars(args).items() if name not in _NOT_KEPT}
    write_json(out / RUN, kept)


def drop_replaced(out: Path) -> None:
    """Remove what an earlier run said about its own erasure, which another one has taken the place of."""
    for name in (PROMPT, CHECKPOINT, PICTURE, METRICS):
        (out / name).unlink(missing_ok=True)
    for path in out.glob(f"{Path(ERASURE).stem}.evaluation*"):
        path.unlink()


def resumed(args: argparse.Namespace) -> argparse.Namespace:
    """The arguments of the interrupted run in `args.resume`."""
    run = args.resume / RUN
    if not (args.resume / CHECKPOINT).is_file() or not run.is_file():
        raise OutputError(f"{args.resume} holds no interrupted run: give the folder that Ctrl-C left behind")
    kept = json.loads(run.read_text(encoding="utf-8"))
    return argparse.Namespace(**{**vars(args), **kept, "out": args.resume})
