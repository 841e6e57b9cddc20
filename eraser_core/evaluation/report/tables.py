"""Figures with their intervals, and tables of them as Markdown, HTML and JSON."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..metrics.objects import Rate
from ..metrics.paired import Difference, mean_difference

Kind = Literal["share", "score", "distance"]


@dataclass(frozen=True)
class Figure:
    """One figure of n pictures. Shares are in [0, 1] and shown in %; `std` is over pictures, or over splits where the
    table says so; `low` and `high` are a 95 % interval, None where there is none."""

    value: float
    n: int
    kind: Kind
    low: float | None = None
    high: float | None = None
    std: float | None = None

    def text(self) -> str:
        """As a table shows it."""
        scale, places = (100, 1) if self.kind == "share" else (1, 2 if abs(self.value) >= 1 else 3)
        said = f"{scale * self.value:.{places}f}"
        if self.std is not None:
            said += f" +- {scale * self.std:.{places}f}"
        if self.low is not None and self.high is not None:
            said += f" [{scale * self.low:.{places}f}, {scale * self.high:.{places}f}]"
        return said

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: value for name, value in vars(self).items() if value is not None}


Cell = Figure | Difference | str | float | None


def share(rate: Rate | None) -> Figure | None:
    """A rate with Wilson's interval; None stays None."""
    if rate is None or rate.n == 0:
        return None
    low, high = rate.interval()
    return Figure(rate.value, rate.n, "share", low, high)


def share_of(hits: Tensor) -> Figure | None:
    """The share of the true among [n] bools."""
    return share(Rate(int(hits.sum()), len(hits)))


def score(values: Tensor) -> Figure | None:
    """The mean of scores [n], their deviation over pictures and the mean's interval (percentile bootstrap)."""
    if len(values) == 0:
        return None
    if len(values) == 1:
        return Figure(float(values[0]), 1, "score")
    mean = mean_difference(values, torch.zeros_like(values))
    return Figure(mean.value, len(values), "score", mean.low, mean.high, float(values.double().std()))


def over_splits(figures: Sequence[Figure]) -> Figure | None:
    """The mean and deviation over splits, as the slides' +- has it; None for fewer than two."""
    if len(figures) < 2:
        return None
    values = torch.tensor([figure.value for figure in figures], dtype=torch.float64)
    return Figure(float(values.mean()), sum(f.n for f in figures), figures[0].kind, std=float(values.std()))


@dataclass(frozen=True)
class Row:
    """A line of a table; `quoted` marks the slides' own figures, which are not ours. `about` names the erasures whose
    sidecars it belongs in."""

    name: str
    cells: Mapping[str, Cell]
    quoted: bool = False
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """`columns` in the slides' order. `note` says what was counted; `arrows` which way is better, by column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    arrows: Mapping[str, str] = field(default_factory=dict)

    def heads(self) -> list[str]:
        return [f"{c} {self.arrows[c]}" if c in self.arrows else c for c in self.columns]

    def markdown(self) -> str:
        """With a heading of level 3."""
        lines = [f"### {self.title}", "", f"| | {' | '.join(self.heads())} |", "|---|" + "---|" * len(self.columns)]
        for row in self.rows:
            name = f"*{row.name} (quoted)*" if row.quoted else row.name
            lines.append(f"| {name} | " + " | ".join(text(row.cells.get(c)) for c in self.columns) + " |")
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])

    def html(self) -> str:
        """Quoted rows are marked and of another colour."""
        head = "".join(f"<th>{html.escape(h)}</th>" for h in self.heads())
        lines = [f"<h2>{html.escape(self.title)}</h2><table><tr><th></th>{head}</tr>"]
        for row in self.rows:
            cells = "".join(f"<td>{html.escape(text(row.cells.get(c)))}</td>" for c in self.columns)
            name = html.escape(row.name) + (" (quoted)" if row.quoted else "")
            lines.append(f"<tr{' class=quoted' if row.quoted else ''}><td>{name}</td>{cells}</tr>")
        return "\n".join([*lines, "</table>", f"<p>{html.escape(self.note)}</p>" if self.note else ""])

    def facts(self) -> dict[str, Any]:
        """As JSON values: what the sidecar and tables.json hold."""
        rows = [
            {
                "name": row.name,
                "quoted": row.quoted,
                "cells": {c: _facts(row.cells.get(c)) for c in self.columns if row.cells.get(c) is not None},
            }
            for row in self.rows
        ]
        return {"title": self.title, "columns": self.heads(), "rows": rows, "note": self.note}


def text(cell: Cell) -> str:
    """A cell as a table shows it; nothing where there is no figure."""
    if cell is None:
        return ""
    if isinstance(cell, Figure):
        return cell.text()
    if isinstance(cell, Difference):
        return f"{cell.value:+.3f} [{cell.low:+.3f}, {cell.high:+.3f}], p = {cell.p:.2g}"
    return cell if isinstance(cell, str) else f"{cell:g}"


def _facts(cell: Cell) -> Any:
    found = {"text": text(cell)}
    if isinstance(cell, Figure):
        return found | cell.facts()
    if isinstance(cell, Difference):
        return found | vars(cell)
    return found if isinstance(cell, str) else found | {"value": cell}
