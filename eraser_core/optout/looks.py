"""What became of each name: drawn before and after, and judged where the model has a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..denoiser import Edit
from ..evaluation.knows import ENOUGH
from ..evaluation.metrics.objects import psr
from ..evaluation.pocket.tasks import questions
from ..evaluation.report import grid
from ..evaluation.suites.manifest import slug
from ..files import write_bytes
from ..models import Model
from ..pocket.concepts import Concept, Concepts
from ..records import Record, read, read_json
from .ledger import digest
from .plan import Plan
from .register import SHOWN, Entry

PICTURES = "pictures"
SHOWN_PICTURES = 4  # a name and column
OTHERS = 24  # pictures of what nobody opted out


@dataclass(frozen=True)
class Look:
    """One name's line. Shares are of `images` pictures; None where nothing was drawn or there is no judge.

    `target` tells whether the name is erased as it was when it was looked at; `on` is the day.
    """

    label: str
    kind: str
    anchor: str
    basis: str
    source: str
    date: str
    scope: str
    target: str
    seen_before: float | None = None
    seen_after: float | None = None
    images: int = 0
    picture: str = ""
    on: str = ""

    @property
    def hardly_known(self) -> bool:
        """Whether the untouched model draws it too seldom for the figures to say anything."""
        return self.seen_before is not None and self.seen_before < ENOUGH


class LooksRecord(Record):
    """names.json."""

    base_hash: str
    names: tuple[Look, ...]
    left_out: dict[str, str]
    others: tuple[float, float, int] | None


def earlier(path: Path, base_hash: str) -> dict[str, Look]:
    """The lines of the last run on this model by label; none where there was no such run."""
    if not path.is_file():
        return {}
    record = read(LooksRecord, read_json(path), path, "remove it, and the next run makes it anew")
    return {look.label: look for look in record.names} if record.base_hash == base_hash else {}


def as_json(
    base_hash: str, looks: Sequence[Look], left_out: Mapping[str, str], others: tuple[float, float, int] | None
) -> dict[str, object]:
    """The value of names.json."""
    return {
        "base_hash": base_hash,
        "names": [asdict(look) for look in looks],
        "left_out": dict(left_out),
        "others": others,
    }


def fresh(plan: Plan) -> list[Look]:
    """The lines before anything was drawn."""
    return [_line(entry, t.anchor, digest(t)) for entry, t in zip(plan.entries, plan.request.targets, strict=True)]


def _line(entry: Entry, anchor: str, target: str) -> Look:
    return Look(entry.label, entry.kind, anchor, entry.basis, entry.source, entry.date, entry.scope, target)


def to_look_at(lines: Sequence[Look], before: Mapping[str, Look], again: int) -> list[int]:
    """Which names are drawn: those that are new or erased otherwise, and of the rest the `again` seen longest ago."""
    new = [i for i, line in enumerate(lines) if not _same(line, before.get(line.label))]
    old = sorted((i for i in range(len(lines)) if i not in set(new)), key=lambda i: before[lines[i].label].on)
    return sorted([*new, *old[:again]])


def _same(line: Look, other: Look | None) -> bool:
    return other is not None and other.target == line.target and bool(other.on)


def carried(lines: Sequence[Look], before: Mapping[str, Look]) -> list[Look]:
    """The lines with what earlier runs saw of names that are erased as they were."""
    found = []
    for line in lines:
        other = before.get(line.label)
        if other is not None and _same(line, other):
            seen = {k: getattr(other, k) for k in ("seen_before", "seen_after", "images", "picture", "on")}
            line = Look(**{**asdict(line), **seen})
        found.append(line)
    return found


def looked_at(model: Model, plan: Plan, line: Look, i: int, edit: Edit, out: Path, images: int, today: str) -> Look:
    """Target i drawn by both models; writes its picture into `out`."""
    task = plan.tasks[i] if plan.tasks else None
    target = plan.request.targets[i]
    if task is not None and task.sheets.get("erased"):
        asked = task.sheets["erased"][:images]
        prompts, indices = [q.prompt for q in asked], [q.index for q in asked]
    else:
        asked, indices = (), list(range(images))
        prompts = [target.pairs()[k % len(target.templates)][0] for k in indices]
    pair = [model.examiner.images(prompts, indices, e) for e in (None, edit)]
    seen: list[float | None] = [None, None]
    if asked:
        seen = [psr(model.examiner.rank_images(asked, drawn)).value for drawn in pair]
    name = f"{PICTURES}/{_file(line)}.png"
    write_bytes(out / name, _side_by_side(line.label, pair))
    drawn = {"seen_before": seen[0], "seen_after": seen[1], "images": images, "picture": name, "on": today}
    return Look(**{**asdict(line), **drawn})


def _file(line: Look) -> str:
    """A name that no other target's picture has."""
    return f"{slug(line.label)[:40] or 'name'}_{line.target[:SHOWN]}"


def _side_by_side(label: str, pair: Sequence[Tensor]) -> bytes:
    shown = [drawn[:SHOWN_PICTURES] for drawn in pair]
    return grid.png(grid.grid([(label, torch.cat(shown))], ["before", "after"], len(shown[0]), grid.native(shown[0])))


def others(model: Model, plan: Plan, edit: Edit) -> tuple[float, float, int] | None:
    """(right before, right after, pictures) of objects that nobody opted out; None where there is no judge."""
    if model.concepts is None:
        return None
    asked = questions(model.concepts, [(c, c.phrase) for c in _not_erased(model.concepts, plan)], OTHERS, 60_000)
    if not asked:
        return None
    before, after = (psr(model.examiner.ranks(asked, e)).value for e in (None, edit))
    return before, after, len(asked)


def _not_erased(concepts: Concepts, plan: Plan) -> list[Concept]:
    gone = {phrase.lower() for t in plan.request.targets for phrase in (t.concept, *t.synonyms)}
    return [c for c in concepts.drawn if c.phrase.lower() not in gone]
