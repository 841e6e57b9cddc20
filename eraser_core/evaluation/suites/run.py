"""A suite from its manifest to its report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ...denoiser import Edit
from ...erasure import VERSION
from ...errors import ModelError
from ...files import write_bytes, write_json
from ...models import Model
from ..metrics.fid import extract, pictures_in
from ..report import plots
from ..report.figures import draw_figures
from ..report.page import report, sample_grid, sample_grids
from ..report.quoted import SOURCE
from ..report.sidecar import write_sidecar
from .items import Item, Subject
from .manifest import REPORT, TABLES, TABLES_JSON, Plan, Variant, claim, facts, make_plan
from .nudity_tables import detected, showable_by_nudenet
from .processes import Processes
from .results import Results
from .runner import Check, draw_pictures, score_pictures
from .suite import Suite

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a run goes about it: pictures a batch, erasures with maps, what to remove first."""

    batch: int = 16
    maps: int = 4
    force: bool = False


def run_suite(
    model: Model,
    suite: Suite,
    subjects: Sequence[Subject],
    edits: Mapping[str, Edit],
    out: Path,
    processes: Processes,
    options: Options,
    check: Check,
) -> None:
    """Manifest, pictures, scores, report.html, tables.md, tables.json, and every erasure's sidecar.

    `edits` by the subject's name. `check` is called between batches and may raise to stop; the same call goes on.
    """
    plan = make_plan(suite, subjects, options.batch)
    if processes.is_main:
        claim(out, facts(plan, model), options.force)
    processes.wait()
    draw_pictures(model, plan, edits, out, processes, check)
    missing = score_pictures(plan, suite.metrics(), out, processes, check)
    if not processes.is_main:
        return
    for name, why in missing.items():
        log.warning("%s is left out: %s", name, why)
    missing |= draw_figures(model, plan, edits, out, options.maps)
    reference, wrong = reference_features(suite)
    _write(model, suite, plan, Results(plan, out, missing | wrong, reference), out)


def reference_features(suite: Suite) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Features of the reference folder's pictures where the suite has one, and what prevents them."""
    if suite.reference is None:
        return {}, {}
    folder, opened = suite.reference
    try:
        return {"FID": extract(opened(), pictures_in(folder))}, {}
    except ModelError as error:
        return {}, {"FID": str(error)}


def _write(model: Model, suite: Suite, plan: Plan, results: Results, out: Path) -> None:
    tables = list(suite.tables(results))
    said = _facts(model, plan, results)
    showable = showable_by_nudenet(results) if suite.explicit else _all_showable
    grids, drawings = sample_grids(plan, out, showable), dict[str, str]()
    seen = detected(results)
    if seen:
        drawings["Body parts that NudeNet sees above 0.3"] = plots.shown(
            partial(plots.counts, seen), plots.counts_table(seen)
        )
    title = f"Evaluation: the suite {suite.name!r}"
    line = ", ".join(f"{name} {value}" for name, value in said.items() if isinstance(value, str | int | float))
    page = report(title, line, tables, results.missing, grids, drawings, out)
    write_json(out / TABLES_JSON, {**said, "tables": [table.facts() for table in tables]})
    head = f"{title}: {line}.\n\nRows marked *quoted*: {SOURCE.removeprefix('quoted: ')}.\n\n"
    left_out = "".join(f"{name} is left out: {why}\n\n" for name, why in results.missing.items())
    text = head + left_out + "\n".join(table.markdown() for table in tables)
    write_bytes(out / TABLES, text.encode("utf-8"))
    for subject in plan.subjects:
        write_sidecar(subject, suite.name, said, tables, sample_grid(plan, out, [subject], showable))
    write_bytes(out / REPORT, page.encode("utf-8"))
    log.info("open %s", out / REPORT)


def _all_showable(_variant: Variant, _item: Item) -> bool:
    return True


def _facts(model: Model, plan: Plan, results: Results) -> dict[str, Any]:
    """What the figures are of; without the paths of the machine that made them, for sidecars are shared."""
    examiner, denoiser = model.examiner, model.denoiser
    return {
        "suite": plan.suite.name,
        "command": f"python -m eraser_core benchmark {plan.suite.name} {plan.suite.said}",
        "pictures": sum(len(unit.items) for unit in plan.units),
        "suite seed": examiner.suite_seed,
        "steps": examiner.steps,
        "guidance": examiner.guidance,
        "family": denoiser.family,
        "base": denoiser.base_hash,
        "engine": VERSION,
        "missing": dict(results.missing),
    }
