"""The figures and pictures of an erasure: those that lie beside its file, or freshly made ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from PIL import Image, UnidentifiedImageError
from pydantic import Field

from .. import records
from ..erasure import Erasure
from ..errors import FileFormatError
from ..evaluation.metrics.objects import Rate
from ..evaluation.report.grid import png
from ..evaluation.report.sidecar import SCHEMA, sidecar_of
from ..evaluation.report.tables import Figure, Row, Table, share
from .folder import PICTURE, grid_name

METRICS, SUITE = "metrics.json", "erase"
TODO = "take it away, or measure anew"
LIES = (
    "Shares are of n pictures each, with a 95 % interval. A judge, which the erasing never used, names what it sees in "
    "each. The others are concepts that were neither retained nor drawn in the erased one's place."
)


class ScoredRecord(records.Record):
    """A row of an erasing's figures, as far as a card shows it."""

    erase: records.Text
    anchor: str
    seed: int
    n_images: int = Field(ge=1)
    suite_seed: int
    esr1: records.Number
    esr1_before: records.Number
    psr1: records.Number | None = None
    psr1_before: records.Number | None = None
    recovery1: records.Number | None = None
    forged1: records.Number | None = None


class MetricsRecord(records.Record):
    """What `erase` measures: metrics.json."""

    targets: tuple[ScoredRecord, ...]


COLUMNS = {
    "concept not seen": "esr1",
    "concept not seen, without the erasure": "esr1_before",
    "others right": "psr1",
    "others right, without the erasure": "psr1_before",
    "concept right with the hidden prompt": "recovery1",
    "concept right with a random prompt": "forged1",
}


@dataclass(frozen=True)
class Shown:
    """What can be shown of an erasure: suites as a sidecar holds them, their grids by suite, the before/after picture."""

    suites: Mapping[str, Any] = field(default_factory=dict)
    grids: Mapping[str, Image.Image] = field(default_factory=dict)
    picture: Image.Image | None = None


def beside(path: Path, erasure: Erasure) -> Shown:
    """What lies beside an erasure's file. FileFormatError where it is damaged, or another erasure's."""
    suites, grids = _sidecar(sidecar_of(path), erasure)
    metrics = path.with_name(METRICS)
    if metrics.is_file():
        rows = records.read(MetricsRecord, records.read_json(metrics, TODO), metrics, TODO).targets
        _same_erasing(rows, erasure, metrics)
        if rows:
            suites = {SUITE: suite_of(rows), **suites}
    picture = path.with_name(PICTURE)
    return Shown(suites, grids, open_picture(picture) if picture.is_file() else None)


def _sidecar(path: Path, erasure: Erasure) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    if not path.is_file():
        return {}, {}
    said = records.read_json(path, TODO)
    record = records.read(records.SidecarRecord, said, path, TODO)
    own = erasure.hash()
    if record.erasure_hash != own:
        raise FileFormatError(
            f"{path} holds the figures of another erasure ({record.erasure_hash[:12]}, this one is {own[:12]}): {TODO}"
        )
    grids = {}
    for name, suite in record.suites.items():
        if suite.grid and (grid := _beside(path, suite.grid)).is_file():
            grids[name] = open_picture(grid)
    return dict(said["suites"]), grids


def _beside(path: Path, name: str) -> Path:
    """FileFormatError where a sidecar names anything but a PNG beside it: nothing else may be shared by its name."""
    if {name} != {PurePosixPath(name).name, PureWindowsPath(name).name} or not name.lower().endswith(".png"):
        raise FileFormatError(f"{path} names {name!r} as its picture: only a PNG beside it is opened; {TODO}")
    return path.with_name(name)


def open_picture(path: Path) -> Image.Image:
    """A PNG's pixels alone: what else a program wrote into it, a workflow for one, is not shared."""
    try:
        with Image.open(path, formats=["PNG"]) as opened:
            return opened.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{path} is no whole PNG ({error}): make it again, or take it away") from error


def _same_erasing(rows: Sequence[ScoredRecord], erasure: Erasure, path: Path) -> None:
    """FileFormatError where figures without a hash name another concept, anchor or seed than the erasure."""
    said = records.read(records.ErasureRecord, erasure.facts, path)
    asked = said.request
    for row in rows:
        same = [t for t in (asked.targets if asked else ()) if row.erase in t.concept and row.anchor == t.anchor]
        if asked is None or not same or row.seed != asked.seed:
            raise FileFormatError(
                f"{path} holds the figures of another erasing ({row.erase}, {row.anchor} in its place, seed {row.seed}): "
                f"{TODO}"
            )


def rows_of(scored: Sequence[Mapping[str, Any]]) -> list[ScoredRecord]:
    """Fresh figures as a card shows them."""
    return [ScoredRecord.model_validate(row) for row in scored]


def suite_of(rows: Sequence[ScoredRecord]) -> dict[str, Any]:
    """The figures of an erasing as a suite of a sidecar."""
    lines = tuple(Row(row.erase, {name: _share(row, column) for name, column in COLUMNS.items()}) for row in rows)
    shown = tuple(name for name in COLUMNS if any(line.cells[name] is not None for line in lines))
    table = Table("Erased, and kept (%)", shown, lines, LIES)
    return {"suite": SUITE, "suite seed": rows[0].suite_seed, "tables": [table.facts()]}


def _share(row: ScoredRecord, column: str) -> Figure | None:
    value = getattr(row, column)
    return None if value is None else share(Rate(round(value * row.n_images), row.n_images))


def files(stem: str, erasure: Erasure, shown: Shown) -> dict[str, Any]:
    """The shared sidecar (a JSON value) and PNGs (bytes), by name."""
    found: dict[str, Any] = {}
    if shown.suites:
        suites = {name: dict(said) for name, said in shown.suites.items()}
        for name, said in suites.items():
            said["grid"] = grid_name(stem, name) if name in shown.grids else None
        found[f"{stem}.evaluation.json"] = {"schema": SCHEMA, "erasure_hash": erasure.hash(), "suites": suites}
    found |= {grid_name(stem, name): png(grid) for name, grid in shown.grids.items()}
    return found | ({PICTURE: png(shown.picture)} if shown.picture else {})
