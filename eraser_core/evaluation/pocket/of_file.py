"""The figures of a finished erasure, wherever it comes from, by the pocket model's judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...erasure import Erasure, check_fits
from ...errors import FileFormatError, RequestError
from ...hidden_prompt import HiddenPrompt
from ...models import Model
from .scores import score, untouched
from .tasks import task_of


def score_erasure(
    model: Model, erasure: Erasure, prompts: Sequence[HiddenPrompt] = (), n: int = 24
) -> list[dict[str, Any]]:
    """A row of figures a target, as `scores.score` gives it, of n pictures a sheet.

    RequestError where the model has no judge, the erasure is another model's, or a target is a category;
    FileFormatError where the prompts are not one a target.
    """
    if model.concepts is None:
        raise RequestError("there is no judge for this model: erasures of the pocket model alone are scored")
    if n < 1:
        raise RequestError(f"{n} pictures were asked for: at least one is needed to score")
    check_fits(erasure, model.denoiser.family, model.denoiser.all_weights())
    targets = len(json.loads(erasure.fact("targets")))
    if prompts and len(prompts) != targets:
        raise FileFormatError(f"the erasure has {targets} targets and {len(prompts)} hidden prompts were given")
    rows, edit = [], erasure.as_edit()
    for i in range(targets):
        task = task_of(model.concepts, model.denoiser, erasure, i, n)
        other = prompts[(i + 1) % len(prompts)] if len(prompts) > 1 else None
        hidden = prompts[i] if prompts else None
        rows.append(score(model.examiner, task, edit, hidden, other, untouched(model.examiner, task)))
    return rows
