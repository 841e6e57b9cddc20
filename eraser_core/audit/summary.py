"""The summary picture of audits: the strongest way of every attack, what brings the concept back first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..evaluation.report.grid import captioned, row_of
from .record import BY_NAME, Audit, Done
from .verdict import percent, strongest


def summary(found: Sequence[tuple[Audit, Path]]) -> Image.Image | None:
    """What the concept's name draws, and a row an attack, of every concept; None where nothing was drawn."""
    parts = []
    for audit, out in found:
        said = f"{audit.setting.concept}, " if len(found) > 1 else ""
        if audit.picture and (out / audit.picture).is_file():
            parts.append((f"{said}asked for by its name{_shares(audit)}", _row(out / audit.picture, [BY_NAME], 0)))
        undoes = [done for done in audit.attacks if any(row.undoes for row in done.rows)]
        for done in (*undoes, *(done for done in audit.attacks if done not in undoes)):
            part = _part(done, out)
            if part is not None:
                parts.append((f"{said}{done.name}: {done.verdict}", part))
    return captioned(parts) if parts else None


def _part(done: Done, out: Path) -> Image.Image | None:
    """The strongest of an attack's ways that have pictures."""
    drawn = [row for row in done.rows if row.drawn]
    if not done.picture or not drawn:
        return None
    best = strongest(drawn) or drawn[0]
    return _row(out / done.picture, [row.label for row in drawn], drawn.index(best))


def _row(path: Path, labels: Sequence[str], number: int) -> Image.Image:
    with Image.open(path) as sheet:
        return row_of(sheet.convert("RGB"), labels, number)


def _shares(audit: Audit) -> str:
    if audit.plain is None or audit.plain_untouched is None:
        return ""
    return f": {percent(audit.plain)} show it with the erasure, {percent(audit.plain_untouched)} without"
