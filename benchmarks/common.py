"""What the benchmarks share: rows that are kept as they come, tables, and one erasing with its figures."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from headings import BACK, cell, heading

from eraser_core.erasing import Erased, configure, erase
from eraser_core.evaluation.pocket.tasks import Task, object_task, settings_for, style_task
from eraser_core.files import write_bytes, write_json
from eraser_core.methods import METHODS
from eraser_core.models import Model, open_model
from eraser_core.pocket import Concepts

OUT = Path("out/benchmarks")
# What `--retain` takes: whether runs have a retain set.
RETAIN = {"both": (True, False), "yes": (True,), "no": (False,)}
SMOKE = {"iterations": 2, "pool_size": 8, "per_trajectory": 4, "sampler_steps": 4}
# What a method does before its first step, made short where a step is timed.
SHORT_START: Mapping[str, Mapping[str, Any]] = {
    "ca": {"anchor_images": 1},
    "robust": {"pictures": 1, "context_age": 0},
    "locked": {"pictures": 1, "context_age": 0},
}
# The tables have each method as its paper has it. KPOP's own choices for one concept are a row of overshoot.md.
PUBLISHED: Mapping[str, Mapping[str, Any]] = {"kpop": {"overshoot": 0.0, "confine": 0.0}}
log = logging.getLogger("benchmark")
Row = dict[str, Any]


def start_logging() -> None:
    """Progress on standard error; the table goes to standard output."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)


class Rows:
    """The rows of one benchmark in `out/benchmarks/NAME.json`, each written as it comes; a rerun goes on.

    `since` holds columns that came later, with what the rows from before them stand for.
    """

    def __init__(self, name: str, key: Sequence[str], fresh: bool = False, since: Mapping[str, Any] | None = None):
        self.path, self._key, self._since = OUT / f"{name}.json", tuple(key), since or {}
        self.rows: list[Row] = []
        if self.path.is_file() and not fresh:
            self.rows = [{**self._since, **row} for row in json.loads(self.path.read_text(encoding="utf-8"))]

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether a row with the same key is there."""
        wanted = [row[k] for k in self._key]
        return any([known[k] for k in self._key] == wanted for known in self.rows)

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows.append(row)
        self.save()

    def save(self) -> None:
        """Write the file; after a change of a row that is there."""
        write_json(self.path, self.rows)

    def take(self, names: Iterable[str]) -> None:
        """Keep other runs' rows beside these; of two with the same key, the one that was here first."""
        for name in names:
            for row in Rows(name, self._key, since=self._since).rows:
                if not self.has(row):
                    self.add(row)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A Markdown table with words over its columns (headings.py); columns in which no row has a value are left out."""
    known = list(rows)
    shown = [c for c in columns if any(row.get(c) is not None for row in known)] or list(columns)
    lines = ["| " + " | ".join(heading(c) for c in shown) + " |", "|" + "---|" * len(shown)]
    lines += ["| " + " | ".join(cell(row.get(c)) for c in shown) + " |" for row in known]
    return "\n".join(lines) + "\n"


def figures(rows: Sequence[Mapping[str, Any]], named: Sequence[str], columns: Sequence[str]) -> str:
    """The figures of erasings in two tables, since one would be too wide: erased and kept; what brings it back, seconds.

    `named` are the columns that say which row it is; both tables have them. One table where nothing brings it back.
    """
    back = [c for c in columns if c in BACK]
    if not any(row.get(c) is not None for row in rows for c in back if c != "seconds"):
        return table(rows, (*named, *columns))
    kept = table(rows, (*named, *(c for c in columns if c not in BACK)))
    return f"Erased and kept:\n\n{kept}\nWith the hidden prompt, and time:\n\n{table(rows, (*named, *back))}"


def show(name: str, text: str) -> None:
    """Print a benchmark's tables and keep them in `out/benchmarks/NAME.md`."""
    sys.stdout.write(text)
    write_bytes(OUT / f"{name}.md", text.encode("utf-8"))


def mean(rows: Iterable[Mapping[str, Any]], column: str) -> float | None:
    """The mean of a column over the rows that have it."""
    values = [row[column] for row in rows if row.get(column) is not None]
    return sum(values) / len(values) if values else None


def digits(hits: Iterable[bool]) -> str:
    """Verdicts as text, a digit a picture: short in a JSON file."""
    return "".join(str(int(hit)) for hit in hits)


def means(rows: Sequence[Row], by: Sequence[str], columns: Sequence[str]) -> list[Row]:
    """One row of means for every combination of the `by` columns, in order of appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[b] for b in by), []).append(row)
    return [
        dict(zip(by, key, strict=True)) | {"runs": len(group)} | {c: mean(group, c) for c in columns}
        for key, group in groups.items()
    ]


def device() -> str:
    """The GPU where one is at hand."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> str:
    """What a row says of where it was made."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def pocket(steps: int | None = None, name: str = "pocket") -> Model:
    """A pocket model, sampled with `steps` (None: its own)."""
    return open_model(name, device(), steps=steps)


def concepts_of(model: Model) -> Concepts:
    """What the pocket model draws."""
    if model.concepts is None:
        raise SystemExit("this benchmark needs the pocket model")
    return model.concepts


def task_of(model: Model, name: str, retain: bool, seed: int, n: int, anchor: str | None = None) -> Task:
    """The task of an object or a style by its name, with the program's own retain set or without one."""
    concepts = concepts_of(model)
    make = style_task if name in concepts.styles else object_task
    return make(concepts, model.denoiser, name, anchor=anchor, retain=None if retain else (), seed=seed, n=n)


def run(model: Model, task: Task, method: str, values: Mapping[str, Any], key_seed: int) -> Erased:
    """One erasing, as published but for `values`; its progress in a line."""
    chosen = METHODS[method]
    values = {**PUBLISHED.get(method, {}), **settings_for([task], chosen.settings.model_fields), **values}
    settings = configure(chosen, model.denoiser.family, task.request, values)
    result = erase(model.denoiser, task.request, chosen, settings, key_seed=key_seed)
    log.info("%s %s -> %s: %.0f s", method, task.concept, task.anchor, result.seconds)
    return result


def timed(what: Callable[[], Any]) -> tuple[Any, float]:
    """A call's value and its seconds."""
    began = time.perf_counter()
    value = what()
    return value, time.perf_counter() - began
