"""Imagenette: "Image of X", ten classes, 500 seeds each, ResNet-50 as the judge (slides, "Erasing Object-Related Concepts").

The four splits are the authors'. An erasure's split is what its metadata says it erases; the untouched model is scored
on the splits of the erasures given, on all four where there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...errors import RequestError
from ...pocket.concepts import without_article
from ..metrics.classifier import IMAGENETTE
from ..report import quoted
from ..report.tables import Cell, Figure, Row, Table, over_splits, share_of
from .ablations import ablation_table
from .items import UNTOUCHED, Item, Subject
from .results import Found, Results, about, common, differ, names, pairs
from .scorers import Metric, resnet

SPLITS = (
    ("cassette player", "church", "garbage truck", "parachute", "French horn"),
    ("chain saw", "gas pump", "tench", "English springer", "golf ball"),
    ("cassette player", "chain saw", "church", "gas pump", "tench"),
    ("garbage truck", "English springer", "golf ball", "parachute", "French horn"),
)
PROMPT = "Image of {}"
ROOM = 10_000  # a class's numbers, so that its noise does not depend on how many pictures are asked for


class ImagenetteSuite:
    """`images` seeds a class."""

    name, explicit, reference = "imagenette", False, None

    def __init__(self, subjects: Sequence[Subject], images: int, weights: Path, device: str):
        if not 1 <= images <= ROOM:
            raise RequestError(f"--images {images}: ask for 1 to {ROOM} pictures a class (the slides: 500)")
        self._images, self._weights, self._device = images, weights, device
        self.said = f"--images {images}"
        self.subjects = tuple(subjects)
        self.targets = {subject: tuple(_class(subject, t) for t in subject.targets) for subject in subjects}
        erased = [name for targets in self.targets.values() for name in targets]
        self.concepts_shown = tuple(dict.fromkeys([*erased, *IMAGENETTE]))

    def items(self) -> list[Item]:
        return [
            Item(ROOM * number + i, PROMPT.format(name), "objects", name, name)
            for number, name in enumerate(IMAGENETTE)
            for i in range(self._images)
        ]

    def draws(self, subject: Subject | None, item: Item) -> bool:
        return True

    def target_of(self, subject: Subject, item: Item) -> int | None:
        targets = self.targets[subject]
        return targets.index(item.concept) if item.concept in targets else None

    def metrics(self) -> list[Metric]:
        return [resnet(self._weights, self._device, IMAGENETTE)]

    def tables(self, results: Results) -> list[Table]:
        if results.of("ResNet-50") is None:
            return [self._table(())]
        rows = self._untouched(results) + self._erased(results)
        found = [self._table(rows)]
        found += ablation_table(self.subjects, lambda s: self._cells(results, s, self.targets[s]))
        return found + self._differences(results)

    def _table(self, rows: Sequence[Row]) -> Table:
        note = (
            f"ResNet-50 on ImageNet's 1000 classes, {self._images} seeds a class, {PROMPT!r}. ESR-k: not among the first "
            "k guesses; PSR-k: kept classes that are. Brackets: Wilson's 95 % interval over pictures; rows over splits: "
            "mean +- deviation over the splits, as the slides have it. Classes in an erasure's retain set are counted, "
            "and the row says so."
        )
        columns = quoted.OBJECT_COLUMNS
        arrows = dict.fromkeys(columns, "(up)")
        return Table("Erasing object-related concepts", columns, (*rows, *quoted.OBJECTS), note, arrows)

    def _untouched(self, results: Results) -> list[Row]:
        """A row a split, and the mean over them."""
        splits = list(dict.fromkeys(self.targets.values())) or list(SPLITS)
        every = [self._cells(results, None, split) for split in splits]
        rows = []
        for split, cells in zip(splits, every, strict=True):
            own = tuple(s.name for s in self.subjects if self.targets[s] == split)
            rows.append(Row(f"{UNTOUCHED}: {', '.join(split)}", cells, about=own))
        return rows + _mean(UNTOUCHED, every, ())

    def _erased(self, results: Results) -> list[Row]:
        rows: list[Row] = []
        for method in dict.fromkeys(s.method for s in self.subjects):
            own = [s for s in self.subjects if s.method == method]
            every = [self._cells(results, s, self.targets[s]) for s in own]
            for subject, cells in zip(own, every, strict=True):
                used = " (retain set used)" if subject.retained else " (no retain set)"
                rows.append(Row(f"{subject.name}{used}", cells, about=(subject.name,)))
            if len({self.targets[s] for s in own}) == len(own):
                rows += _mean(method, every, tuple(s.name for s in own))
        for subject in (s for s in self.subjects if s.prompts):
            found = results.of("ResNet-50", subject, hidden=True)
            if found is not None:
                rows.append(Row(f"{subject.name} + hidden prompt", _erasing(found), about=(subject.name,)))
        return rows

    def _cells(self, results: Results, subject: Subject | None, targets: Sequence[str]) -> dict[str, Cell]:
        found = results.of("ResNet-50", subject)
        if found is None:
            return {}
        kept = found.where(lambda item: item.concept not in targets)
        cells = _erasing(found.where(lambda item: item.concept in targets))
        return cells | {f"PSR-{k}": share_of(_right(kept, k)) for k in (1, 5)}

    def _differences(self, results: Results) -> list[Table]:
        rows = []
        for one, other in pairs(self.subjects, lambda s: self.targets[s]):
            both, targets = [results.of("ResNet-50", s) for s in (one, other)], self.targets[one]
            if both[0] is None or both[1] is None:
                continue
            first, second = common(both[0], both[1])
            cells: dict[str, Cell] = {}
            left, right = (_right(f.where(_among(targets, True)), 1) for f in (first, second))
            cells["ESR-1"] = differ(~left, ~right)
            cells["PSR-1"] = differ(*(_right(f.where(_among(targets, False)), 1) for f in (first, second)))
            rows.append(Row(names(one, other), cells, about=about(one, other)))
        note = "First minus second on the same seeds: Newcombe's paired 95 % interval, McNemar's exact p."
        return [Table("Differences, paired by seed", ("ESR-1", "PSR-1"), tuple(rows), note)] if rows else []


def _class(subject: Subject, phrase: str) -> str:
    wanted = without_article(phrase.strip()).lower()
    for name in IMAGENETTE:
        if name.lower() == wanted:
            return name
    raise RequestError(f"{subject.path} erases {phrase!r}, which is no class of Imagenette: {', '.join(IMAGENETTE)}")


def _among(targets: Sequence[str], wanted: bool) -> Callable[[Item], bool]:
    return lambda item: (item.concept in targets) == wanted


def _right(found: Found, k: int) -> Tensor:
    rank = found["rank"]
    return rank < k if len(found) else torch.zeros(0, dtype=torch.bool)


def _erasing(found: Found) -> dict[str, Cell]:
    return {f"ESR-{k}": share_of(~_right(found, k)) for k in (1, 5)}


def _mean(name: str, every: Sequence[dict[str, Cell]], own: tuple[str, ...]) -> list[Row]:
    """The row over splits, where there are at least two."""
    cells: dict[str, Cell] = {}
    for column in quoted.OBJECT_COLUMNS:
        figures = [cell for cells_ in every if isinstance(cell := cells_.get(column), Figure)]
        cells[column] = over_splits(figures)
    return [Row(f"{name}, over {len(every)} splits", cells, about=own)] if len(every) > 1 else []
