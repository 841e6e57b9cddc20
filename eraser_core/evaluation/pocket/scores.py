"""The figures of one erasing on the pocket model: a task's sheets of questions, drawn and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...denoiser import Edit
from ...hidden_prompt import Halves, HiddenPrompt
from ..examiner import Examiner
from ..metrics.objects import Rate, esr, psr
from .tasks import Task

FORGERIES = 3


UNTOUCHED = ("erased", "kept", "retained", "look_alike")


def untouched(examiner: Examiner, task: Task) -> dict[str, Rate]:
    """PSR-1 on the model as it is; `erased` among the sheets answers "does it know the concept at all?"."""
    return {name: psr(examiner.ranks(task.sheets[name])) for name in UNTOUCHED if task.sheets.get(name)}


def asked(task: Task, hidden: HiddenPrompt | None, other: HiddenPrompt | None) -> int:
    """How many pictures `untouched` and `score` draw for a task."""
    n = {name: len(sheet) for name, sheet in task.sheets.items()}
    found = sum(n.values()) + sum(n.get(name, 0) for name in UNTOUCHED)
    if hidden is None:
        return found
    # with the hidden prompt in one half of the guidance and in both, with forged ones, with another concept's
    return found + n["erased"] * (3 if other is None else 4) + n["kept"]


def score(
    examiner: Examiner,
    task: Task,
    edit: Edit,
    hidden: HiddenPrompt | None,
    other: HiddenPrompt | None,
    before: Mapping[str, Rate],
    halves: Sequence[Halves] = ("positive", "both"),
) -> dict[str, Any]:
    """All figures of one erasing, as a flat row; shares are of `n_images` pictures a sheet.

    `halves` says how recovery is asked for: with the hidden prompt in the positive half of the guidance, in both, or each.

    `hidden` is the concept's hidden prompt, `other` one trained for another concept; the columns of those that are
    not there are None.
    """
    rank = {name: examiner.ranks(sheet, edit) for name, sheet in task.sheets.items() if sheet}
    row: dict[str, Any] = {
        "erase": task.concept,
        "kind": task.kind,
        "anchor": task.anchor,
        "retain_set_used": bool(task.retained),
        "n_images": len(task.sheets["erased"]),
        "suite_seed": examiner.suite_seed,
        "seed": task.request.seed,
        "esr1_before": 1 - before["erased"].value,
    }
    for column, sheet in (("esr1", "erased"), ("esr1_synonym", "synonym"), ("esr1_description", "description")):
        row[column] = esr(rank[sheet]).value if sheet in rank else None
        row[column + "_interval"] = esr(rank[sheet]).interval() if sheet in rank else None
    row["esr5"] = esr(rank["erased"], 5).value
    for column, sheet in (("psr1", "kept"), ("psr1_retained", "retained"), ("psr1_lookalike", "look_alike")):
        row[column] = psr(rank[sheet]).value if sheet in rank else None
        row[column + "_before"] = before[sheet].value if sheet in rank else None
        row[column + "_interval"] = psr(rank[sheet]).interval() if sheet in rank else None
    row["psr5"] = psr(rank["kept"], 5).value
    return row | recovery(examiner, task, edit, hidden, other, halves)


def recovery(
    examiner: Examiner,
    task: Task,
    edit: Edit,
    hidden: HiddenPrompt | None,
    other: HiddenPrompt | None,
    halves: Sequence[Halves] = ("positive", "both"),
) -> dict[str, Any]:
    """Shares judged as the erased concept: with its hidden prompt, with random ones of its norm, with another's.

    p goes to the positive half of the guidance; in `recovery1_both` to both, as in the authors' code. `kept_with_p1` is the share of kept concepts still right when their prompts carry the hidden prompt.
    """
    if hidden is None:
        return dict.fromkeys(("recovery1", "recovery1_both", "forged1", "forged_other1", "kept_with_p1"))
    sheet = task.sheets["erased"]
    generator, forgeries = torch.Generator().manual_seed(examiner.suite_seed), min(FORGERIES, len(sheet))
    forged = [psr(examiner.ranks(sheet[i::forgeries], edit, hidden.forged(generator))) for i in range(forgeries)]
    every = Rate(sum(rate.hits for rate in forged), len(sheet))
    found: dict[str, Any] = {"recovery1": None, "recovery1_both": None, "forged_other1": None}
    for half in halves:
        rate = psr(examiner.ranks(sheet, edit, hidden, half))
        name = "recovery1" if half == "positive" else "recovery1_both"
        found |= {name: rate.value, f"{name}_interval": rate.interval()}
    if other is not None:
        found["forged_other1"] = psr(examiner.ranks(sheet, edit, other)).value
    return found | {
        "forged1": every.value,
        "forged1_interval": every.interval(),
        "kept_with_p1": psr(examiner.ranks(task.sheets["kept"], edit, hidden)).value,
    }


def summary(row: Mapping[str, Any]) -> str:
    """One line of a row's figures for people."""

    def share(name: str) -> str:
        return "-" if row.get(name) is None else f"{row[name]:.3f}"

    return (
        f"{row['erase']}: erased {share('esr1')} (untouched {share('esr1_before')}, synonyms {share('esr1_synonym')}), "
        f"others right {share('psr1')} (untouched {share('psr1_before')}), "
        f"with the hidden prompt {share('recovery1')}, forged {share('forged1')}"
    )
