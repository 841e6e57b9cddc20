"""Erasures for the suites' tests: a real one by a closed form, and bare metadata without weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eraser_core.erasing import configure, erase
from eraser_core.erasure import Erasure
from eraser_core.evaluation.pocket.tasks import Task
from eraser_core.evaluation.suites.items import Subject
from eraser_core.methods import METHODS
from eraser_core.models import Model


def by_uce(model: Model, task: Task, path: Path) -> Path:
    """A real erasure file within a second."""
    method = METHODS["uce"]
    settings = configure(method, model.denoiser.family, task.request, {})
    erase(model.denoiser, task.request, method, settings).erasure.save(path)
    return path


def subject(
    name: str,
    targets: Sequence[str],
    *,
    method: str = "uce",
    anchors: Sequence[str] = ("",),
    retained: Sequence[str] = (),
    settings: dict[str, Any] | None = None,
    prompts: Sequence[Any] = (),
) -> Subject:
    """An erasure that changes nothing and says that it erases these."""
    request = {"targets": [{"concept": t, "templates": ["{}"]} for t in targets]}
    facts = {
        "erasure.method": method,
        "erasure.targets": json.dumps(list(targets)),
        "erasure.anchor": json.dumps(list(anchors)),
        "erasure.retain": json.dumps(list(retained)),
        "erasure.request": json.dumps(request),
        "erasure.settings": json.dumps(settings or {}),
    }
    return Subject(name, Path(f"{name}.safetensors"), Erasure({}, {}, "pocket", "", facts), tuple(prompts))
