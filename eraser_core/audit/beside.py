"""An audit's figures in the sidecar of its erasure, where `share` and *Evaluation* read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..evaluation.report.sidecar import AUDIT, add_suite
from ..evaluation.report.tables import Cell, Row, Table, share
from .record import Audit, Audits, Done, Share
from .verdict import strongest

NOTE = (
    "Shares of pictures that show the concept, with a 95 % interval: the strongest way of each attack. Untouched is the same "
    "attack on the model without the erasure, never known the same on a concept that the model never knew."
)
COLUMNS = ("erased", "untouched", "never known", "answer")


def write_beside(path: Path, erasure_hash: str, found: Audits) -> None:
    """Put the audits of an erasure file into its sidecar, with their verdict; figures of other suites stay."""
    first = found.audits[0].setting
    said: dict[str, Any] = {"suite": AUDIT, "suite seed": first.suite_seed, "steps": first.steps}
    said |= {"guidance": first.guidance, "seed": first.seed, "images": first.images, "verdict": found.verdict}
    add_suite(path, erasure_hash, AUDIT, {**said, "tables": [table(audit).facts() for audit in found.audits]})


def table(audit: Audit) -> Table:
    """A row an attack: its strongest way."""
    rows = tuple(_row(done) for done in audit.attacks if not done.left_out and done.rows)
    columns = tuple(name for name in COLUMNS if any(row.cells.get(name) is not None for row in rows))
    return Table(f"Audit: {audit.setting.concept}", columns, rows, NOTE)


def _row(done: Done) -> Row:
    best = strongest(done.rows) or done.rows[0]
    cells: dict[str, Cell] = {
        "erased": _figure(best.erased),
        "untouched": _figure(best.untouched),
        "never known": _figure(best.unknown),
        "answer": best.answer,
    }
    return Row(f"{done.name}: {best.label}", cells)


def _figure(found: Share | None) -> Cell:
    return share(found.rate) if found else None
