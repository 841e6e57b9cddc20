"""Scores written as a suite's run leaves them, and its tables by title and name."""

from __future__ import annotations

import torch

from eraser_core.evaluation.report.tables import Row, Table
from eraser_core.files import write_tensors


def write(plan, out, metric, **columns):
    """Scores by rules: a column's `rule(subject, hidden, item)` is a number or a list a picture."""
    for unit in plan.units:
        v = unit.variant
        found = {
            name: torch.tensor([rule(v.subject, v.hidden, item) for item in unit.items])
            for name, rule in columns.items()
        }
        index = torch.tensor([item.index for item in unit.items])
        write_tensors(unit.scores(out, metric), found | {"index": index}, {})


def rows_of(table: Table) -> dict[str, Row]:
    return {row.name: row for row in table.rows if not row.quoted}


def by_title(tables) -> dict[str, Table]:
    return {table.title: table for table in tables}
