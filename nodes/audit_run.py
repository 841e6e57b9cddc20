"""What *Audit Erasure* does when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
import torch
from PIL import Image
from torch import Tensor

from eraser_core.audit.beside import write_beside
from eraser_core.audit.record import PAGE, SUMMARY, Audits, key_of
from eraser_core.audit.run import audit_all, chosen, setting_of
from eraser_core.audit.subject import case_of, targets_of
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.errors import RequestError
from eraser_core.evaluation.attacks.case import Case
from eraser_core.evaluation.attacks.registry import ATTACKS, QUICK
from eraser_core.evaluation.suites.manifest import slug
from eraser_core.plain_lora import is_plain, read_any, read_lora

from .apply import FROM_SOCKET, NONE
from .compare import as_tensor
from .host import folders
from .host import model as host_model
from .host.audited import AuditProgress, HostModel, opened

LONGEST = 60  # letters of the erasure's name in the folder's
UNJUDGED = (
    "This model has no judge: pictures were drawn, and how many of them show the concept was not measured. Look at them. What "
    "follows from the file alone was computed."
)


@dataclass(frozen=True)
class Found:
    """The node's outputs: the summary [1, h, w, 3], the verdict, a line an attack, and the page below the output folder."""

    sheet: Tensor
    verdict: str
    text: str
    path: str


@dataclass(frozen=True)
class Given:
    """The erasure that is audited: `path` is its file, None where it came through the socket; `note` what was not read."""

    erasure: Erasure
    path: Path | None
    name: str
    note: str = ""
    plain: bool = False


def run(
    model: Any, clip: Any, vae: Any, erasure_name: str, erasure: Erasure | None, values: dict[str, Any], hidden: Any
) -> Found:
    """Audit and write the page. What was finished is kept when the user cancels, and the next run goes on there."""
    with torch.inference_mode(False), torch.enable_grad():
        return _run(model, clip, vae, erasure_name, erasure, values, hidden)


def _run(
    model: Any, clip: Any, vae: Any, erasure_name: str, erasure: Erasure | None, values: dict[str, Any], hidden: Any
) -> Found:
    prefix = values.get("folder_prefix") or "audits/audit"
    folders.check_prefix(prefix)
    attacks, concept = _attacks(values["attacks"], values["chosen"]), values["concept"].strip()
    carried = host_model.carried(model)
    if carried:
        raise RequestError(
            f"this MODEL carries an erasure already ({Path(carried[0].source).name}): connect the MODEL as Load Checkpoint "
            "gives it"
        )
    subject = opened(model, clip, vae, values.get("steps") or 0)
    given = _given(erasure_name, erasure, concept, subject, hidden)
    keys = _keys(values.get("hidden_prompt"), given.erasure)
    asked: dict[str, Any] = {"anchor": (values.get("anchor") or "").strip(), "hidden": keys}
    asked |= {"images": values["images"], "seed": values["seed"]}
    name = values.get("second_lora") or NONE
    second = None if name == NONE else read_any(folders.find(folders.LORAS, name, hidden), subject.denoiser)
    asked["beside"] = second.erasure if second else None
    names = [concept] if concept else list(targets_of(given.erasure))
    cases = [case_of(subject, given.erasure, one, **asked) for one in names]
    out = _place(prefix, given.name, cases)
    progress = AuditProgress(str(hidden.unique_id or ""))
    subject.denoiser.on_forward = progress.forward
    found = audit_all(
        subject,
        given.erasure,
        attacks,
        out=out,
        name=given.name,
        concept=concept or None,
        note=second.beside(given.note) if second else given.note,
        on_attack=progress.attack,
        on_plan=progress.planned,
        **asked,
    )
    return _said(found, given, out)


def _attacks(which: str, names: str) -> Sequence[str]:
    if which != "chosen":
        return QUICK if which == "quick" else tuple(ATTACKS)
    found = [name.strip().lower() for name in names.replace(",", "\n").splitlines() if name.strip()]
    if not found:
        raise RequestError(f"the box 'chosen' is empty: type names of attacks, one a line, of {', '.join(ATTACKS)}")
    try:
        return [attack.name for attack in chosen(found)]
    except RequestError as error:
        raise RequestError(f"the box 'chosen': {error}") from error


def _given(name: str, erasure: Erasure | None, concept: str, subject: HostModel, hidden: Any) -> Given:
    """The erasure from the socket, or the file: one of ours, or a plain LoRA whose concept the box names."""
    if erasure is not None:
        if not concept and not targets_of(erasure):
            raise RequestError("the erasure does not say what it erases: type that into the box 'concept'")
        return Given(erasure, None, "erasure")
    if name in ("", FROM_SOCKET):
        raise RequestError("choose an erasure file, or connect Load Erasure or a node that erases")
    path = folders.find(folders.LORAS, name, hidden)
    if not is_plain(path):
        return Given(load_erasure(path), path, path.stem)
    if not concept:
        raise RequestError(
            f"{name} is a plain LoRA, which does not say what it erases: type that into the box 'concept'"
        )
    lora = read_lora(path, subject.denoiser)
    return Given(lora.erasure, path, path.stem, lora.note, plain=True)


def _keys(prompts: Any, erasure: Erasure) -> Sequence[Any]:
    if prompts is None:
        return ()
    if prompts.erasure_hash != erasure.hash():
        raise RequestError(
            "the hidden prompt belongs to another erasure: connect the one that was saved with this erasure"
        )
    return tuple(prompts.prompts)


def _place(prefix: str, name: str, cases: Sequence[Case]) -> Path:
    """The folder: the same for the same audit, so that it goes on, and another one for any other."""
    key = key_of([setting_of(case) for case in cases])
    named = f"{prefix}_{slug(name)[:LONGEST]}_{key}"
    folders.check_prefix(named)
    return Path(folder_paths.get_output_directory()) / named


def _said(found: Audits, given: Given, out: Path) -> Found:
    several = len(found.audits) > 1
    lines = [found.verdict, *([given.note] if given.note else [])]
    if not all(audit.judged for audit in found.audits):
        lines.append(UNJUDGED)
    for audit in found.audits:
        of = f"{audit.setting.concept}, " if several else ""
        lines += [f"{of}{done.name}: {done.verdict}" for done in audit.attacks]
    verdict = "\n".join(lines[: len(lines) - sum(len(audit.attacks) for audit in found.audits)])
    page = str((out / PAGE).relative_to(Path(folder_paths.get_output_directory())))
    lines.append(f"the page: {page}")
    lines += _beside(found, given)
    with Image.open(out / SUMMARY) if (out / SUMMARY).is_file() else Image.new("RGB", (64, 64), "white") as sheet:
        return Found(as_tensor([sheet.convert("RGB")]), verdict, "\n".join(lines), page)


def _beside(found: Audits, given: Given) -> list[str]:
    """Write the figures beside the erasure's file; in words where that is not done."""
    if given.plain:
        return []
    if given.path is None:
        return [
            "The figures are not written beside a file: choose the erasure's file for that, in place of the socket."
        ]
    if given.path.is_relative_to(folders.EXAMPLES):
        return ["The figures are not written beside this erasure: the pack's examples are only read."]
    write_beside(given.path, given.erasure.hash(), found)
    return []
