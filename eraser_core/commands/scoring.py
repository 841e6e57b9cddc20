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


def said(row: dict[str, Any], method: str) -> str:
    """A row in one line."""
    return f"{row['erase']}: {figures(row)}. VERDICT: {verdict(row, method)}"
