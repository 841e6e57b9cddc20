"""Many kills by a seed, and the table of what became of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from killing import SIGNALS, Case, Server, Verdict, Whole, read_only, together, trial, whole

COLUMNS = ["command", "how", "runs", "finished before", "went on", "same tensors", "half-written", "lost", "other"]
Point = tuple[str, str]


class Campaign:
    """The runs of some cases, one after the other in folders below `where`; each case's whole run is made once."""

    def __init__(self, server: Server, cases: list[Case], where: Path, seed: int) -> None:
        self._server, self._cases, self._where = server, cases, where
        self._rng, self._known, self._count = random.Random(seed), dict[str, Whole](), 0

    def kills(self, count: int) -> Iterator[tuple[str, Verdict]]:
        """`count` kills: each case and signal in turn, by turns at a random moment and at a chosen point."""
        kinds = [(case, how) for how in SIGNALS for case in self._cases]
        for i in range(count):
            case, how = kinds[i % len(kinds)]
            if i // len(kinds) % 2:
                yield self.kill(case, how, point=self._rng.choice(list(case.points)))
            else:
                yield self.kill(case, how, seconds=self._moment(case))

    def others(self) -> Iterator[tuple[str, Verdict]]:
        """A full disk at every file, a read-only folder, and two at once."""
        for case in self._cases:
            for point in (p for p in case.points if p[1] == "half"):
                yield self.kill(case, "full", point=point)
            yield f"{case.name}, read-only", read_only(self._server, case, self._whole(case), self._next())
            for _ in range(3):
                seconds = self._moment(case)
                said = f"{case.name}, two at once, {seconds:.2f} s apart"
                yield said, together(self._server, case, self._whole(case), self._next(), seconds)

    def kill(self, case: Case, how: str, **where: Any) -> tuple[str, Verdict]:
        """One; `seconds` or `point`."""
        said = f"{case.name}, {how}, " + ", ".join(f"{name} {value}" for name, value in where.items())
        return said, trial(self._server, case, self._whole(case), self._next(), how, **where)

    def _moment(self, case: Case) -> float:
        return self._rng.uniform(0.0, self._whole(case).seconds)

    def _whole(self, case: Case) -> Whole:
        if case.name not in self._known:
            self._known[case.name] = whole(self._server, case, self._next())
        return self._known[case.name]

    def _next(self) -> Path:
        self._count += 1
        return self._where / f"{self._count}"


def rows(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """One row for every command and way to end it."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.case, verdict.how), []).append(verdict)
    return [dict(zip(COLUMNS, [*key, *_counts(group)], strict=True)) for key, group in groups.items()]


def _counts(group: list[Verdict]) -> list[int]:
    count = partial(sum, start=0)
    return [
        len(group),
        count(v.end == "finished" for v in group),
        count(v.went_on for v in group),
        count(v.same for v in group),
        count(bool(v.half_written) for v in group),
        count(bool(v.lost) for v in group),
        count(bool(v.other) for v in group),
    ]
