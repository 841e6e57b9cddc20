"""What was found, read back from the run's folder, and the figures that tables are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...errors import RequestError
from ...files import read_tensors
from ..metrics.fid import frechet_distance
from ..metrics.objects import ranks
from ..metrics.paired import Difference, mean_difference, rate_difference
from ..report.tables import Figure
from .items import UNTOUCHED, Item, Subject
from .manifest import Plan, Variant


@dataclass(frozen=True)
class Found:
    """One metric's columns [n, ...] of one model, a row an item, in the suite's order."""

    items: tuple[Item, ...]
    columns: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, column: str) -> Tensor:
        return self.columns[column]

    def where(self, keep: Callable[[Item], bool]) -> Found:
        """The rows of some items."""
        rows = [i for i, item in enumerate(self.items) if keep(item)]
        return Found(tuple(self.items[i] for i in rows), {name: c[rows] for name, c in self.columns.items()})

    def ranks(self, column: str, classes: Sequence[str]) -> Tensor:
        """[n] the rank of each item's concept among logits of these classes."""
        answers = torch.tensor([classes.index(item.concept) for item in self.items], dtype=torch.long)
        return ranks(self[column], answers)


@dataclass(frozen=True)
class Results:
    """Everything of one run. `missing` names the metrics whose model is not there, with what to do about it;
    `reference` holds features of the reference folder's pictures by metric, where one was given."""

    plan: Plan
    out: Path
    missing: Mapping[str, str]
    reference: Mapping[str, Tensor] = field(default_factory=dict)
    _read: dict[tuple[str, Variant], Found | None] = field(default_factory=dict)

    def of(self, metric: str, subject: Subject | None = None, hidden: bool = False) -> Found | None:
        """A model's scores, or None where the metric or the model has none."""
        key = metric, Variant(subject, hidden)
        if key not in self._read:
            self._read[key] = self._find(*key)
        return self._read[key]

    def _find(self, metric: str, variant: Variant) -> Found | None:
        items, parts = dict[int, Item](), list[dict[str, Tensor]]()
        for unit in self.plan.units:
            path = unit.scores(self.out, metric)
            if unit.variant == variant and path.is_file():
                parts.append(read_tensors(path)[0])
                items |= {item.index: item for item in unit.items}
        if not parts:
            return None
        # a batch may lack a text that others have
        names = dict.fromkeys(name for part in parts for name in part)
        rows = [len(part["index"]) for part in parts]
        columns = {
            name: torch.cat(
                [part.get(name, torch.full((n,), float("nan"))) for part, n in zip(parts, rows, strict=True)]
            )
            for name in names
        }
        order = columns.pop("index").argsort()
        indices = torch.cat([part["index"] for part in parts])[order].tolist()
        return Found(tuple(items[i] for i in indices), {name: c[order] for name, c in columns.items()})


def common(first: Found, second: Found) -> tuple[Found, Found]:
    """The rows of the pictures that both models drew."""
    both = {item.index for item in first.items} & {item.index for item in second.items}
    return first.where(lambda item: item.index in both), second.where(lambda item: item.index in both)


def differ(first: Tensor, second: Tensor) -> Difference | None:
    """First minus second, paired by seed: shares for bools, means for numbers. None where nothing is paired."""
    if len(first) == 0:
        return None
    return rate_difference(first, second) if first.dtype == torch.bool else mean_difference(first, second)


def names(one: Subject, other: Subject | None) -> str:
    """A difference as a row's name."""
    return f"{one.name} - {UNTOUCHED if other is None else other.name}"


def about(one: Subject, other: Subject | None) -> tuple[str, ...]:
    """The sidecars that a difference belongs in."""
    return (one.name,) if other is None else (one.name, other.name)


def set_distance(reference: Tensor, features: Tensor) -> Figure | None:
    """FID of two sets of features; None for fewer than two pictures. It has no interval here: compare equal n only."""
    try:
        return Figure(frechet_distance(reference, features), len(features), "distance")
    except RequestError:
        return None


def pairs(subjects: Sequence[Subject], alike: Callable[[Subject], object]) -> list[tuple[Subject, Subject | None]]:
    """Each erasure beside the untouched model (None), and beside every later one of which `alike` says the same."""
    found: list[tuple[Subject, Subject | None]] = [(subject, None) for subject in subjects]
    for i, one in enumerate(subjects):
        found += [(one, other) for other in subjects[i + 1 :] if alike(one) == alike(other)]
    return found
