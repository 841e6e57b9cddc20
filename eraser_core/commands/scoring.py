"""What `erase` and `score` share: the figures of one concept under a bar, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..denoiser import Edit
from ..evaluation.pocket.scores import asked, score, untouched
from ..evaluation.pocket.tasks import Task
from ..evaluation.pocket.verdict import figures, verdict
from ..hidden_prompt import HiddenPrompt
from ..models import Model
from .progress import drawing


def scored(model: Model, task: Task, number: int, edit: Edit, prompts: Sequence[HiddenPrompt]) -> dict[str, Any]:
    """The row of target `number`, whose hidden prompt is that of the same number, if there are any."""
    hidden = prompts[number] if prompts else None
    other = prompts[(number + 1) % len(prompts)] if len(prompts) > 1 else None
    with drawing(model.examiner, f"scoring {task.concept}", asked(task, hidden, other)):
        return score(model.examiner, task, edit, hidden, other, untouched(model.examiner, task))


LINES = (
    ("the concept is seen", "esr1"),
    ("... by a synonym", "esr1_synonym"),
    ("... by a description", "esr1_description"),
    ("others are right", "psr1"),
    ("... those of the retain set", "psr1_retained"),
    ("... those that look alike", "psr1_lookalike"),
    ("the concept is seen with its hidden prompt", "recovery1"),
    ("... with a random one", "forged1"),
)


def table(row: dict[str, Any], method: str) -> str:
    """A row as a table for people: shares of the pictures in per cent, before and after, with 95 % intervals."""
    width = max(len(name) for name, _ in LINES) + 2
    lines = [f"{row['erase']}, {row['n_images']} pictures a line", f"{'':<{width}}{'untouched':>12}   erased"]
    for name, column in LINES:
        if row.get(column) is None:
            continue
        turned = column.startswith("esr1")  # a share without the concept
        before, after = row.get(f"{column}_before"), row[column]
        low, high = row[f"{column}_interval"]
        if turned:
            before, after, low, high = None if before is None else 1 - before, 1 - after, 1 - high, 1 - low
        shown = "" if before is None else f"{100 * before:.0f}"
        lines.append(f"  {name:<{width - 2}}{shown:>12}   {100 * after:.0f} [{100 * low:.0f}, {100 * high:.0f}]")
    return "\n".join([*lines, f"VERDICT: {verdict(row, method)}"]) + "\n"


def said(row: dict[str, Any], method: str) -> str:
    """A row in one line."""
    return f"{row['erase']}: {figures(row)}. VERDICT: {verdict(row, method)}"
