"""`NAME.evaluation.json` beside an erasure file: its figures, suite by suite, for whoever is given both files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import OutputError
from ...files import write_bytes, write_json
from ..suites.items import Subject
from .grid import png
from .tables import Row, Table

log = logging.getLogger(__name__)
SCHEMA = "concept-eraser-evaluation-1"


def sidecar_of(erasure: Path) -> Path:
    """Where the figures of an erasure file lie."""
    return erasure.with_name(f"{erasure.stem}.evaluation.json")


def write_sidecar(
    subject: Subject, suite: str, facts: Mapping[str, Any], tables: Sequence[Table], grid: Image.Image
) -> None:
    """Add a suite's tables (the rows about this erasure, and the quoted ones) and its grid to the erasure's sidecar.

    Other suites' figures stay, unless they are those of another erasure under the same name. A folder that cannot be
    written to is a warning: the run's own folder holds everything.
    """
    path, own = sidecar_of(subject.path), subject.erasure.hash()
    picture = subject.path.with_name(f"{subject.path.stem}.evaluation.{suite}.png")
    known = _read(path)
    suites = known["suites"] if known.get("erasure_hash") == own else {}
    kept = [_about(table, subject.name) for table in tables]
    said = {**facts, "tables": [table.facts() for table in kept if any(not row.quoted for row in table.rows)]}
    suites[suite] = {**said, "grid": picture.name}
    try:
        write_bytes(picture, png(grid))
        write_json(path, {"schema": SCHEMA, "erasure_hash": own, "suites": suites})
    except OutputError as error:
        log.warning("the erasure's figures are not written beside it: %s", error)


def _about(table: Table, name: str) -> Table:
    rows: tuple[Row, ...] = tuple(row for row in table.rows if row.quoted or name in row.about)
    return Table(table.title, table.columns, rows, table.note, table.arrows)


def _read(path: Path) -> dict[str, Any]:
    """What is there already; an unreadable file is replaced."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else {}
