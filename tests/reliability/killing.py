"""Starts a command, kills it at some moment or at a chosen point, looks at what it left, and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import judge

SERVER = Path(__file__).with_name("fork_server.py")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
# Root may write anywhere; without these two rights a read-only folder binds it as it does everybody.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
Words = list[str]
Point = dict[str, str]


def bound() -> Words:
    """What comes before a command so that permissions count for it."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return WITHOUT_RIGHTS if root and shutil.which(WITHOUT_RIGHTS[0]) else []


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (a negative one is the signal that killed it), what it said, and its seconds."""

    code: int
    said: str
    seconds: float

    @property
    def raw(self) -> bool:
        return "Traceback" in self.said


class Server:
    """The process that forks the runs; a context."""

    def __init__(self, where: Path, *arguments: str) -> None:
        self._logs, self._count = where, 0
        self._process = subprocess.Popen(
            [*bound(), sys.executable, str(SERVER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(where / "server.log").open("w"),
            text=True,
            env={**os.environ, **QUIET},
        )
        while (line := self._line()) != "ready":
            if not line:
                raise RuntimeError((where / "server.log").read_text()[-2000:])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()

    def _line(self) -> str:
        return self._process.stdout.readline().strip()  # type: ignore[union-attr]

    def _ask(self, wish: Mapping[str, Any]) -> int:
        self._process.stdin.write(json.dumps(wish) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return int(self._line())

    def start(self, run: Any, point: Point | None = None) -> tuple[int, Path]:
        """A run's process and what it says."""
        self._count += 1
        log = self._logs / f"{self._count}.log"
        return self._ask({"start": {"run": run, "log": str(log), "point": point}}), log

    def end(self, started: tuple[int, Path], since: float) -> Ended:
        """Wait for a run."""
        pid, log = started
        return Ended(self._ask({"wait": pid}), log.read_text(encoding="utf-8"), time.monotonic() - since)

    def run(self, run: Any, point: Point | None = None, kill: tuple[str, float] | None = None) -> Ended:
        """A run to its end, which may be a signal after so many seconds."""
        since = time.monotonic()
        started = self.start(run, point)
        if kill:
            time.sleep(kill[1])
            os.kill(started[0], getattr(signal, kill[0]))
        return self.end(started, since)


@dataclass(frozen=True)
class Case:
    """A command to be killed: what lies in the folder before it, how it begins, how it goes on, what it gives."""

    name: str
    begin: Callable[[Path], Any]
    again: Callable[[Path], Any | None]  # None: what is there is finished
    result: Callable[[Path], dict[str, str]]
    prepare: Callable[[Path], None] = lambda where: where.mkdir()
    lost: Callable[[Path, dict[str, bytes], dict[str, str]], list[str]] = judge.lost_files
    points: Sequence[tuple[str, str]] = ()
    place: Path | None = None  # where it always writes to, whatever the command says
    abrupt: bool = False  # every signal ends the process where it stands, as in ComfyUI's worker


@dataclass(frozen=True)
class Whole:
    """What the run gives when nobody kills it."""

    result: dict[str, str]
    seconds: float


@dataclass
class Verdict:
    """One killed run."""

    case: str
    how: str
    end: str = ""  # finished, stopped (it said so), killed, refused
    went_on: bool = False
    same: bool = False
    half_written: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        wrong = self.half_written + self.lost + self.other
        return wrong if self.same else [*wrong, "other tensors in the end"]


def whole(server: Server, case: Case, where: Path) -> Whole:
    """The run that nobody kills."""
    where = case.place or where
    case.prepare(where)
    ended = server.run(case.begin(where))
    if ended.code:
        raise RuntimeError(f"{case.name}: {ended.said}")
    return Whole(case.result(where), ended.seconds)


def trial(
    server: Server,
    case: Case,
    known: Whole,
    where: Path,
    how: str,
    seconds: float | None = None,
    point: tuple[str, str] | None = None,
) -> Verdict:
    """Kill a run by `how` (a signal, or "full": no space left) after some seconds or at a point, judge it, and go on."""
    where = case.place or where
    case.prepare(where)
    before, done = judge.files(where), Verdict(case.name, how)
    stop = None if point is None else {"file": point[0], "when": point[1], "do": how}
    ended = server.run(case.begin(where), stop, None if seconds is None else (how, seconds))
    done.end = _end(ended)
    _look(done, case, known, where, before, ended)
    again = case.again(where)
    if again is not None:
        done.went_on = done.end != "finished"
        second = server.run(again)
        if second.code:
            done.other.append(f"it does not go on ({second.code}): {second.said[-300:]}")
        done.other += [f"{name} was not swept" for name in judge.parts(where)]
    done.half_written += judge.half_written(where) if not done.half_written else []
    done.same = case.result(where) == known.result
    return _tidied(done, where)


def together(server: Server, case: Case, known: Whole, where: Path, seconds: float) -> Verdict:
    """Two runs of one command into one folder, the second so much later: one may be refused, nothing may be mixed."""
    where = case.place or where
    case.prepare(where)
    before, done, since = judge.files(where), Verdict(case.name, "two at once"), time.monotonic()
    first = server.start(case.begin(where))
    time.sleep(seconds)
    second = server.start(case.begin(where))
    ended = [server.end(first, since), server.end(second, since)]
    done.end = " and ".join(sorted(_end(one) for one in ended))
    if done.end not in ("finished and finished", "finished and refused"):
        done.other += [f"{done.end}: {one.said[-300:]}" for one in ended]
    done.other += ["a traceback: " + one.said[-300:] for one in ended if one.raw]
    _compare(done, case, known, where, before)
    return _tidied(done, where)


def read_only(server: Server, case: Case, known: Whole, where: Path) -> Verdict:
    """A folder that may be read but not written to: refused in words, everything as it was, and it works afterwards."""
    where = case.place or where
    case.prepare(where)
    before, done = judge.files(where), Verdict(case.name, "read-only")
    where.chmod(0o555)
    ended = server.run(case.begin(where))
    where.chmod(0o755)
    done.end = _end(ended)
    if done.end != "refused" or ended.raw:
        done.other.append(f"{done.end}: {ended.said[-300:]}")
    if judge.files(where) != before:
        done.lost.append("the folder changed")
    second = server.run(case.again(where) or case.begin(where))
    done.went_on = not second.code
    _compare(done, case, known, where, before)
    return _tidied(done, where)


def _compare(done: Verdict, case: Case, known: Whole, where: Path, before: dict[str, bytes]) -> None:
    done.half_written += judge.half_written(where)
    if not done.half_written:
        done.lost += case.lost(where, before, known.result)
        done.same = case.result(where) == known.result
    done.other += [f"{name} was left" for name in judge.parts(where)]


def _tidied(done: Verdict, where: Path) -> Verdict:
    if not done.faults:
        shutil.rmtree(where)
    return done


def _end(ended: Ended) -> str:
    names = {0: "finished", 130: "stopped", 2: "refused"}
    return names.get(ended.code, "killed" if ended.code < 0 else f"failed ({ended.code})")


def _look(done: Verdict, case: Case, known: Whole, where: Path, before: dict[str, bytes], ended: Ended) -> None:
    done.half_written += judge.half_written(where)
    if not done.half_written:
        done.lost += case.lost(where, before, known.result)
    if ended.raw:
        done.other.append("a traceback: " + ended.said[-300:])
    expected = {"SIGKILL": "killed", "full": "refused"}.get(done.how, "killed" if case.abrupt else "stopped")
    early = done.end == "killed" and not ended.said and judge.files(where) == before  # its modules were loading
    if done.end not in ("finished", expected) and not early and not (case.abrupt and done.end == "stopped"):
        done.other.append(f"it ended as {done.end!r}, {expected!r} was expected: {ended.said[-300:]}")
    if done.end != "killed" and not case.abrupt:
        done.other += [f"{name} was left" for name in judge.parts(where)]
