"""What the pocket suite's tables have in common: their rows' names, their notes, their differences."""

from __future__ import annotations

from collections.abc import Sequence

from ..report.tables import Cell, Row, Table
from ..suites.items import UNTOUCHED, Subject

JUDGE = "pocket model, by its judge"
INTERVAL = "Brackets are 95 % intervals over pictures (Wilson's for shares, bootstrap for means)."


def model_row(subject: Subject | None, cells: dict[str, Cell], own: Sequence[Subject], before: str = "") -> Row:
    """A model's line; the untouched one's belongs to all erasures beside it."""
    if subject is None:
        return Row(before + UNTOUCHED, cells, about=tuple(s.name for s in own))
    return Row(before + subject.name, cells, about=(subject.name,))


def differences(of: str, columns: tuple[str, ...], rows: Sequence[Row]) -> Table:
    note = (
        "First minus second on pictures of the same seeds: difference of shares (or means) [95 % interval], p. Shares: "
        "Newcombe's paired interval and McNemar's exact test; means: bootstrap over pairs and sign test."
    )
    return Table(f"Differences, paired by seed: {of}", columns, tuple(rows), note)
