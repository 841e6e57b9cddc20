"""The slides' "Influence of Hyper-parameter": KPOP erasures that differ in one setting, side by side."""

from __future__ import annotations

import html
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


def lambda_figure(table: Table) -> str:
    """An SVG of ESR-1 and PSR-1 over lambda, at the commonest mechanism and k; empty for fewer than two lambdas."""
    ours = [row for row in table.rows if not row.quoted]
    kinds = [(row.cells["mechanism"], row.cells["k"]) for row in ours]
    usual = max(kinds, key=kinds.count)
    points = sorted(
        (float(str(row.cells["lambda"])), row) for row, kind in zip(ours, kinds, strict=True) if kind == usual
    )
    if len({value for value, _ in points}) < 2:
        return ""
    width, height, lines = 420, 200, []
    for column, colour, top in (("ESR-1", "#c33", 20), ("PSR-1", "#36c", 38)):
        spots = []
        for place, (value, row) in enumerate(points):
            cell = row.cells.get(column)
            if isinstance(cell, Figure):
                x, y = 50 + place * (width - 150) / (len(points) - 1), 10 + (1 - cell.value) * (height - 50)
                spots.append(f"{x:.1f},{y:.1f}")
                lines.append(f'<text x="{x:.1f}" y="{height - 12}" text-anchor="middle">{value:g}</text>')
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(spots)}"/>')
        lines.append(f'<text x="{width - 80}" y="{top}" fill="{colour}">{html.escape(column)}</text>')
    lines += [f'<text x="0" y="16">100 %</text><text x="0" y="{height - 38}">0 %</text>']
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" font-size="12">{"".join(lines)}</svg>'
