"""One model and one register: solve, look, write. The folder is brought up to date; a run that was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ..erasure import load_erasure
from ..errors import FileFormatError, OutputError
from ..evaluation.examiner import Examiner
from ..files import write_bytes, write_json
from ..hidden_prompt import save_prompts
from ..methods import method
from ..model_spec import now
from ..models import Model
from ..records import read_json
from . import looks as looking
from .page import Facts, page
from .plan import Plan
from .register import Register
from .solve import CLOSED, Hooks, Made, by_method, closed_form, request_digest

ERASURE, NAMES, RECORD, PAGE = "optout.safetensors", "names.json", "record.json", "index.html"
LEDGER, PROMPTS, CHECKPOINT = (
    f"private/{n}" for n in ("ledger.safetensors", "optout_hidden_prompts.safetensors", "checkpoint.safetensors")
)
Drawing = Callable[[Examiner, str, int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Order:
    """How a register is carried out. `images` a name that is looked at, 0 for none; `again` names are looked at that are
    erased as they were. `values` are settings of the method."""

    method: str = CLOSED
    values: Mapping[str, Any] = field(default_factory=dict)
    images: int = 12
    again: int = 4
    dtype: torch.dtype = torch.float16


@dataclass(frozen=True)
class Outcome:
    """What a run did. `record` is its entry in record.json; `others` as `looks.others` gives it."""

    record: Mapping[str, Any]
    looks: tuple[looking.Look, ...]
    others: tuple[float, float, int] | None


def check_folder(out: Path) -> None:
    """OutputError where the folder holds something that no run of this kind wrote."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: choose a folder for the results")
    ours = any((out / name).is_file() for name in (RECORD, LEDGER, CHECKPOINT))
    if not ours and out.is_dir() and any(p.is_file() and not p.name.startswith(".") for p in out.rglob("*")):
        raise OutputError(f"{out} holds other files: choose a folder of its own for the opt-outs of a model")


def unchanged(model: Model, plan: Plan, order: Order, out: Path) -> str:
    """The day of the last run where names, model and method are those of that run; else ""."""
    runs = _runs(out)
    return str(runs[-1].get("at")) if runs and _same(out, plan, order, model, runs[-1]) else ""


def make(model: Model, plan: Plan, register: Register, order: Order, out: Path, hooks: Hooks) -> Made:
    """The erasure of all names. What was read or trained when `hooks` raise to stop is kept for the next run."""
    if order.method == CLOSED and not order.values:
        return closed_form(model.denoiser, plan, register, out / LEDGER, order.dtype, hooks)
    chosen = method(order.method)
    values = dict(order.values)
    return by_method(model.denoiser, plan, register, chosen, values, out / CHECKPOINT, order.dtype, hooks)


def finish(
    model: Model, name: str, plan: Plan, register: Register, order: Order, out: Path, made: Made, drawing: Drawing
) -> Outcome:
    """Look at names, then write optout.safetensors, names.json, index.html and record.json into `out`."""
    before = looking.earlier(out / NAMES, model.denoiser.base_hash)
    lines = looking.carried(looking.fresh(plan), before)
    edit, others = made.erasure.as_edit(), None
    if order.images:
        chosen = looking.to_look_at(lines, before, order.again)
        pictures = 2 * (order.images * len(chosen) + (looking.OTHERS if plan.tasks else 0))
        with drawing(model.examiner, "looking", pictures):
            for i in chosen:
                today = date.today().isoformat()
                lines[i] = looking.looked_at(model, plan, lines[i], i, edit, out, order.images, today)
            others = looking.others(model, plan, edit)
    record = _record(model, plan, register, order, made, [line.label for line in lines], before)
    _write(model, plan, out, made, lines, others)
    facts = Facts(name, register.digest[:12], order.method, record["erasure"][:12], record["at"], others, record)
    write_bytes(out / PAGE, page(facts, lines, plan.left_out).encode("utf-8"))
    write_json(out / RECORD, [*_runs(out), record])
    return Outcome(record, tuple(lines), others)


def _runs(out: Path) -> list[dict[str, Any]]:
    path = out / RECORD
    if not path.is_file():
        return []
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(run, dict) for run in found):
        raise FileFormatError(f"{path} is damaged: it holds no list of runs; remove it, and the next run makes it anew")
    return found


def _same(out: Path, plan: Plan, order: Order, model: Model, last: Mapping[str, Any]) -> bool:
    there = all((out / name).is_file() for name in (ERASURE, NAMES, PAGE))
    asked = _asked(model, plan, order)
    return there and asked == {k: last.get(k) for k in asked} and load_erasure(out / ERASURE).hash() == last["erasure"]


def _asked(model: Model, plan: Plan, order: Order) -> dict[str, Any]:
    """What makes two runs the same."""
    return {
        "request": request_digest(plan.request),
        "base_hash": model.denoiser.base_hash,
        "method": order.method,
        "values": dict(order.values),
        "left_out": dict(plan.left_out),
    }


def _record(
    model: Model,
    plan: Plan,
    register: Register,
    order: Order,
    made: Made,
    labels: Sequence[str],
    before: Mapping[str, looking.Look],
) -> dict[str, Any]:
    return {
        "at": now(),
        "register": register.digest,
        **_asked(model, plan, order),
        "erasure": made.erasure.hash(),
        "names": len(labels),
        "added": [label for label in labels if label not in before],
        "removed": [label for label in before if label not in labels],
        "read": made.changes.added + made.changes.removed if made.changes else len(labels),
    }


def _write(
    model: Model,
    plan: Plan,
    out: Path,
    made: Made,
    lines: Sequence[looking.Look],
    others: tuple[float, float, int] | None,
) -> None:
    if made.prompts and made.key_seed is not None:
        facts = {"hidden_prompt.family": model.denoiser.family, "hidden_prompt.base_hash": model.denoiser.base_hash}
        save_prompts(out / PROMPTS, made.prompts, made.key_seed, made.erasure.hash(), facts)
    else:
        (out / PROMPTS).unlink(missing_ok=True)  # an earlier run's: it belongs to another erasure
    made.erasure.save(out / ERASURE)
    (out / CHECKPOINT).unlink(missing_ok=True)
    write_json(out / NAMES, looking.as_json(model.denoiser.base_hash, lines, plan.left_out, others))
