"""The slides' "Influence of Hyper-parameter": KPOP erasures that differ in one setting, side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..report import quoted
from ..report.tables import Cell, Figure, Row, Table
from .items import Subject

SETTINGS = ("mechanism", "k", "lambda")


def settings(subject: Subject) -> dict[str, Any]:
    """The settings of the slides' two ablations; empty for another method."""
    if subject.method != "kpop":
        return {}
    values = json.loads(subject.erasure.fact("settings"))
    return {name: values[name] for name in SETTINGS}


def ablation_table(subjects: Sequence[Subject], cells: Callable[[Subject], Mapping[str, Cell]]) -> list[Table]:
    """A row an erasure, for those of one set of targets of which at least two differ in these settings."""
    found = []
    for targets in dict.fromkeys(s.targets for s in subjects):
        rows = [(s, settings(s)) for s in subjects if s.targets == targets and settings(s)]
        if len({json.dumps(said) for _, said in rows}) < 2:
            continue
        ours = [
            Row(s.name, {**{name: str(value) for name, value in said.items()}, **cells(s)}, about=(s.name,))
            for s, said in rows
        ]
        note = "KPOP under other settings; the same pictures as above. Quoted rows: Imagenette, and NER-0.5 on I2P, SD 1.4."
        columns = (*SETTINGS, *quoted.PROMPT_COLUMNS)
        found.append(Table("Prompting mechanisms, prompt size and lambda", columns, (*ours, *quoted.PROMPTS), note))
    return found


def lambda_points(table: Table) -> dict[str, list[tuple[float, float]]]:
    """(lambda, share) of ESR-1 and PSR-1 at the commonest mechanism and k; empty for fewer than two lambdas."""
    ours = [row for row in table.rows if not row.quoted]
    kinds = [(row.cells["mechanism"], row.cells["k"]) for row in ours]
    usual = max(kinds, key=kinds.count)
    rows = sorted((float(str(row.cells["lambda"])), i) for i, row in enumerate(ours) if kinds[i] == usual)
    if len({value for value, _ in rows}) < 2:
        return {}
    found = {}
    for column in ("ESR-1", "PSR-1"):
        cells = [(value, ours[i].cells.get(column)) for value, i in rows]
        found[column] = [(value, cell.value) for value, cell in cells if isinstance(cell, Figure)]
    return found
