"""The summary picture of audits: the strongest way of every attack, what brings the concept back first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..evaluation.report.grid import captioned, row_of
from .record import Audit, Done
from .verdict import strongest


def summary(found: Sequence[tuple[Audit, Path]]) -> Image.Image | None:
    """A row of pictures an attack of every concept, from the attacks' own pictures; None where none was drawn."""
    parts = []
    for audit, out in found:
        said = f"{audit.setting.concept}, " if len(found) > 1 else ""
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
    with Image.open(out / done.picture) as sheet:
        return row_of(sheet.convert("RGB"), [row.label for row in drawn], drawn.index(best))
