"""A process with the engine loaded that forks one child a run, so that a killed run costs seconds, not an import of torch.

`python tests/reliability/fork_server.py [--host DIR]` reads one JSON line a wish and answers with one. A child has the
signals of a fresh interpreter and runs the same `main` as `python -m eraser_core`; nothing is computed before the fork.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "host")]

Run = Callable[[Any], int]


def serve(run: Run) -> None:
    """{"start": {...}} answers a process id, {"wait": id} what became of it."""
    for line in sys.stdin:
        wish = json.loads(line)
        if "start" in wish:
            answer = _fork(run, wish["start"])
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(wish["wait"], 0)[1])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _fork(run: Run, trial: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(trial["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        if trial.get("point"):
            install(**trial["point"])
        code = run(trial["run"])
    except BaseException:  # as the interpreter shows it
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def install(file: str, when: str, do: str, careless: str = "") -> None:
    """Stop this process at one point of writing a file whose name begins with `file`.

    `when`: "begun" (there, empty), "half" (half of it), "written" (whole, under its passing name), "named" (in its
    place), "removed". `careless` writes files under their own names, as the judge must notice. `do`: a signal, or "full" for a disk without space.
    `careless`: files are written under their own names, which the judge must notice.
    """
    import eraser_core.files as files

    def act() -> None:
        if do == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), getattr(signal, do))

    class Writing:
        """An open file that stops half-way."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def write(self, data: bytes) -> int:
            self.inner.write(data[: len(data) // 2])
            self.inner.flush()
            act()
            return len(data[: len(data) // 2]) + self.inner.write(data[len(data) // 2 :])

        def __enter__(self) -> Writing:
            return self

        def __exit__(self, *_: Any) -> None:
            self.inner.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    def opened(path: Path, *args: Any, **kwargs: Any) -> Any:
        mine = path.name.lstrip(".").startswith(file)
        if mine and careless:
            path = path.with_name(path.name[1:].partition(".safetensors")[0] + ".safetensors")
        inner = open(path, *args, **kwargs)  # noqa: PTH123, SIM115
        if not mine:
            return inner
        if when == "begun":
            act()
        return Writing(inner) if when == "half" else inner

    replace, unlink = Path.replace, Path.unlink

    def replaced(self: Path, target: Path) -> Path:
        mine = Path(target).name.startswith(file)
        if mine and when == "written":
            act()
        done = replace(self, target)
        if mine and when == "named":
            act()
        return done

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        there = self.exists()
        unlink(self, missing_ok)
        if there and self.name.startswith(file) and when == "removed":
            act()

    vars(files)["open"] = opened
    vars(Path).get("replace")  # patched in this child alone
    Path.replace, Path.unlink = replaced, unlinked  # type: ignore[method-assign, assignment]


def command(words: list[str]) -> int:
    from eraser_core.__main__ import main

    return main(words)


def node(base: Path) -> Run:
    """*Train Concept Eraser* in the pinned ComfyUI: in a thread beside the main one, as the host's own worker is."""
    import in_process

    host = in_process.load_host(base)
    in_process.load_pack()
    choice = importlib.import_module(f"{in_process.PACK}.nodes.values").MethodChoice
    train = importlib.import_module(f"{in_process.PACK}.nodes.train_run").train

    def run(values: dict[str, Any]) -> int:
        done: list[int] = []

        def work() -> None:
            model, clip, _ = host.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")
            try:
                train(model, clip, {**values, "method": choice(*values["method"])}, "")
            except ValueError as error:  # the host shows its message
                sys.stderr.write(f"error: {error}\n")
                done.append(2)
            else:
                done.append(0)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while worker.is_alive():
                worker.join(0.05)
        except KeyboardInterrupt:
            sys.stderr.write("Stopped server\n")
            return 130
        return done[0] if done else 1

    return run


def load_engine() -> Run:
    """Every module that a command needs, so that no child imports."""
    import torch

    from eraser_core.commands import benchmark, combine, erase, generate, info, knows, merge, score, share  # noqa: F401

    torch.set_num_threads(1)
    return command


if __name__ == "__main__":
    chosen = node(Path(sys.argv[2])) if sys.argv[1:2] == ["--host"] else load_engine()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    serve(chosen)
