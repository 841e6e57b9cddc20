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
AUDIT = "audit"  # the suite of an audit, which has a verdict beside its tables


def sidecar_of(erasure: Path) -> Path:
    """Where the figures of an erasure file lie."""
    return erasure.with_name(f"{erasure.stem}.evaluation.json")


def write_sidecar(
    subject: Subject, suite: str, facts: Mapping[str, Any], tables: Sequence[Table], grid: Image.Image
) -> None:
    """Add a suite's tables (the rows about this erasure, and the quoted ones) and its grid to the erasure's sidecar."""
    kept = [_about(table, subject.name) for table in tables]
    said = {**facts, "tables": [table.facts() for table in kept if any(not row.quoted for row in table.rows)]}
    add_suite(subject.path, subject.erasure.hash(), suite, said, grid)


def add_suite(
    erasure: Path, erasure_hash: str, suite: str, said: Mapping[str, Any], grid: Image.Image | None = None
) -> None:
    """Put a suite, its tables among what it says, and its grid into the sidecar of an erasure file.

    Other suites' figures stay, unless they are those of another erasure under the same name. A folder that cannot be
    written to is a warning: the run's own folder holds everything.
    """
    path, known = sidecar_of(erasure), _read(sidecar_of(erasure))
    picture = erasure.with_name(f"{erasure.stem}.evaluation.{suite}.png")
    suites = known["suites"] if known.get("erasure_hash") == erasure_hash else {}
    suites[suite] = {**said, "grid": picture.name if grid is not None else None}
    try:
        if grid is not None:
            write_bytes(picture, png(grid))
        write_json(path, {"schema": SCHEMA, "erasure_hash": erasure_hash, "suites": suites})
    except OutputError as error:
        log.warning("the erasure's figures are not written beside it: %s", error)


def audit_verdict(erasure: Path, erasure_hash: str) -> str:
    """The sentence of the audit in an erasure's sidecar; "" where there is none, or the sidecar is another erasure's."""
    known = _read(sidecar_of(erasure))
    suites = known.get("suites") if known.get("erasure_hash") == erasure_hash else None
    audit = suites.get(AUDIT) if isinstance(suites, dict) else None
    said = audit.get("verdict") if isinstance(audit, dict) else None
    return " ".join(said.split()) if isinstance(said, str) else ""


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
