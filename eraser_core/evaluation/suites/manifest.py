"""The manifest: which model draws which pictures in which batches, written before the first of them.

A run that finds its own manifest goes on with it. Batches are part of it, so that a resumed or divided run computes
each picture in the company in which the uninterrupted run does, and gets the same bits.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import records
from ...errors import OutputError
from ...files import sweep, tensors_hash, write_json
from ...hidden_prompt import prompts_hash
from ...locks import LOCK
from ...models import Model
from .items import UNTOUCHED, Item, Pictures, Subject

MANIFEST, IMAGES, SCORES = "manifest.json", "images", "scores"
REPORT, TABLES, TABLES_JSON, MAPS, COSINES = "report.html", "tables.md", "tables.json", "maps.png", "cosines.svg"
RESULTS = (REPORT, TABLES, TABLES_JSON, MAPS, COSINES)
SCHEMA = "concept-eraser-suite-1"


@dataclass(frozen=True)
class Variant:
    """One model that draws: the untouched one (no subject), an erasure, or an erasure with its hidden prompts."""

    subject: Subject | None = None
    hidden: bool = False

    @property
    def name(self) -> str:
        if self.subject is None:
            return UNTOUCHED
        return self.subject.name + (" + hidden prompt" if self.hidden else "")


@dataclass(frozen=True)
class Unit:
    """A batch of one model: the smallest piece of work, done whole or not at all."""

    variant: Variant
    number: int
    items: tuple[Item, ...]

    def picture(self, out: Path, item: Item) -> Path:
        """Where a picture lies."""
        return out / IMAGES / slug(self.variant.name) / f"{item.index:07d}.png"

    def scores(self, out: Path, metric: str) -> Path:
        """Where a metric's scores of the batch lie."""
        return out / SCORES / slug(metric) / slug(self.variant.name) / f"{self.number:05d}.safetensors"


@dataclass(frozen=True)
class Plan:
    """A suite applied to some erasures."""

    suite: Pictures
    subjects: tuple[Subject, ...]
    items: tuple[Item, ...]
    units: tuple[Unit, ...]

    @property
    def variants(self) -> list[Variant]:
        return list(dict.fromkeys(unit.variant for unit in self.units))


def make_plan(suite: Pictures, subjects: Sequence[Subject], batch: int) -> Plan:
    """Every model's pictures in batches of one guidance scale."""
    items = tuple(suite.items())
    units = [unit for variant in _variants(subjects) for unit in _units(suite, variant, items, batch)]
    return Plan(suite, tuple(subjects), items, tuple(units))


def _variants(subjects: Sequence[Subject]) -> list[Variant]:
    found = [Variant()]
    for subject in subjects:
        found += [Variant(subject)] + ([Variant(subject, hidden=True)] if subject.prompts else [])
    return found


def _units(suite: Pictures, variant: Variant, items: Sequence[Item], batch: int) -> list[Unit]:
    subject = variant.subject
    wanted = [item for item in items if suite.draws(subject, item)]
    if variant.hidden and subject is not None:
        wanted = [item for item in wanted if suite.target_of(subject, item) is not None]
    groups: dict[float | None, list[Item]] = {}
    for item in wanted:
        groups.setdefault(item.guidance, []).append(item)
    parts = [group[i : i + batch] for group in groups.values() for i in range(0, len(group), batch)]
    return [Unit(variant, number, tuple(part)) for number, part in enumerate(parts)]


def facts(plan: Plan, model: Model) -> dict[str, Any]:
    """Everything that decides what the pictures are, as JSON values."""
    denoiser, examiner = model.denoiser, model.examiner
    models: dict[str, Any] = {}
    for variant in plan.variants:
        subject = variant.subject
        said: dict[str, Any] = {} if subject is None else {"erasure_hash": subject.erasure.hash()}
        if subject is not None and variant.hidden:
            said["prompt_hash"] = prompts_hash(subject.prompts)
        batches = [[item.index for item in unit.items] for unit in plan.units if unit.variant == variant]
        models[variant.name] = said | {"batches": batches}
    return {
        "schema": SCHEMA,
        "suite": plan.suite.name,
        "suite_seed": examiner.suite_seed,
        "steps": examiner.steps,
        "guidance": examiner.guidance,
        "family": denoiser.family,
        "base_hash": denoiser.base_hash,
        "prediction": denoiser.schedule.prediction,
        "schedule_hash": tensors_hash(denoiser.schedule.tables()),
        "latent_shape": list(denoiser.latent_shape),
        "dtype": str(next(denoiser.network.parameters()).dtype),
        "models": models,
        "items": [item.facts() | {"seed": item.noise_seed(examiner.suite_seed)} for item in plan.items],
    }


def claim(out: Path, wanted: Mapping[str, Any], force: bool) -> None:
    """Make the folder this run's: write the manifest, or find the same one there and go on.

    OutputError if the folder holds another run or other people's files. `force` replaces another run: where only some
    models differ, their pictures and scores are removed and those of the others stay.
    """
    path, wanted = out / MANIFEST, json.loads(json.dumps(wanted))
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: choose a folder for the results")
    ours = path.is_file()
    if not ours and out.is_dir() and any(p.name != LOCK and p.suffix != ".part" for p in out.iterdir()):
        raise OutputError(f"{out} is in use and holds no run of this command: choose another folder")
    sweep(out)
    if not ours:
        write_json(path, wanted)
        return
    known = _known(path)
    if known == wanted:
        return
    if not force:
        differs = next(name for name in {**wanted, **known} if known.get(name) != wanted.get(name))
        raise OutputError(
            f"{out} holds another run (its {differs} differs): choose another folder, give the same suite, model, "
            "erasures and options to go on with it, or replace it with --force (models that do not differ are kept)"
        )
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)
    for folder in _stale(out, known, wanted):
        shutil.rmtree(folder, ignore_errors=True)  # a model of which nothing was drawn yet has none
    write_json(path, wanted)


def _known(path: Path) -> dict[str, Any]:
    todo = "choose another folder, or remove this one"
    known: dict[str, Any] = records.read_json(path, todo)
    records.read(records.ManifestRecord, known, path, todo)
    return known


def _stale(out: Path, known: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Path]:
    """The folders of the old run that the new one cannot use."""
    if any(known.get(name) != wanted.get(name) for name in {**known, **wanted} if name != "models"):
        return [out / IMAGES, out / SCORES]
    changed = [slug(name) for name, said in known["models"].items() if wanted["models"].get(name) != said]
    parents = [out / IMAGES, *sorted((out / SCORES).glob("*"))]
    return [parent / name for parent in parents for name in changed]


def slug(name: str) -> str:
    """A name as a folder's, on every system."""
    return re.sub(r"[^A-Za-z0-9.+=-]+", "_", name).strip("_.")
