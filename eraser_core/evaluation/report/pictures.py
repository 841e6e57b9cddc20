"""The pictures that show an erasing: before, after, brought back, and what should have stayed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from PIL import Image

from ...denoiser import Edit
from ...erasure import Erasure
from ...hidden_prompt import HiddenPrompt
from ...models import Model
from ..examiner import Question
from ..pocket.scores import FORGERIES
from ..pocket.tasks import Task
from . import grid

PER_CELL = 4


def before_after(model: Model, erasure: Erasure, prompts: Sequence[HiddenPrompt]) -> Image.Image:
    """Untouched, sanitized and (where there is one) sanitized with the hidden prompt: the concepts and what replaced them."""
    request = json.loads(erasure.fact("request"))
    edit, rows = erasure.as_edit(), []
    columns = ["untouched", "erased"] + (["erased, with the hidden prompt"] if prompts else [])
    for i, target in enumerate(request["targets"]):
        asked = [target["templates"][j % len(target["templates"])] for j in range(PER_CELL)]
        for word in (target["concept"], target["anchor"]):
            said = [template.replace("{}", word) if word else "" for template in asked]
            images = [model.examiner.images(said, range(PER_CELL), e) for e in (None, edit)]
            if prompts:
                images.append(model.examiner.images(said, range(PER_CELL), edit, prompts[i]))
            rows.append((word or "(empty prompt)", torch.cat(images)))
    return grid.grid(rows, columns, PER_CELL, grid.native(rows[0][1]))


def first_picture(model: Model, task: Task, edit: Edit, hidden: HiddenPrompt | None) -> Image.Image:
    """The concept before, after, and brought back, by the first prompts that it is scored with."""
    columns: list[tuple[str, Edit | None, HiddenPrompt | None]] = [("untouched", None, None), ("erased", edit, None)]
    if hidden is not None:
        columns.append(("with its hidden prompt", edit, hidden))
    questions = task.sheets["erased"]
    return _by_column(model, [(task.concept, questions)], columns)


def concept_picture(model: Model, task: Task, edit: Edit, hidden: HiddenPrompt) -> Image.Image:
    """The concept: untouched, erased, with its hidden prompt, with a random one; pictures that were scored too.

    A row each, so that a telephone shows them as well.
    """
    generator = torch.Generator().manual_seed(model.examiner.suite_seed)
    models: list[tuple[str, Edit | None, HiddenPrompt | None]] = [
        ("untouched", None, None),
        ("erased", edit, None),
        ("with its hidden prompt", edit, hidden),
        ("with a random prompt", edit, hidden.forged(generator)),
    ]
    asked = task.sheets["erased"][::FORGERIES][:PER_CELL]
    said, indices = [q.prompt for q in asked], [q.index for q in asked]
    rows = [(title, model.examiner.images(said, indices, e, p)) for title, e, p in models]
    return grid.grid(rows, [task.concept], len(asked), grid.native(rows[0][1]))


def kept_picture(model: Model, task: Task, edit: Edit) -> Image.Image:
    """What should have stayed, before and after: four of each sheet, by the prompts that they are scored with."""
    titles = {"kept": "not retained", "retained": "retained", "look_alike": "look-alikes"}
    rows = [(title, task.sheets[sheet]) for sheet, title in titles.items() if task.sheets.get(sheet)]
    return _by_column(model, rows, [("untouched", None, None), ("erased", edit, None)])


def _by_column(
    model: Model,
    rows: Sequence[tuple[str, Sequence[Question]]],
    columns: Sequence[tuple[str, Edit | None, HiddenPrompt | None]],
) -> Image.Image:
    found = []
    for label, questions in rows:
        asked = questions[:PER_CELL]
        said, indices = [q.prompt for q in asked], [q.index for q in asked]
        images = torch.cat([model.examiner.images(said, indices, e, p) for _, e, p in columns])
        found.append((label, images))
    return grid.grid(
        found, [title for title, _, _ in columns], min(PER_CELL, len(found[0][1]) // len(columns)), cell=80
    )
