"""`score`: the figures of an erasure file on the pocket model."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from ..erasure import Erasure, load_erasure
from ..errors import FileFormatError, RequestError
from ..evaluation.pocket.tasks import task_of
from ..files import write_json
from ..hidden_prompt import HiddenPrompt, load_prompts
from ..models import Model
from ..pocket import Concepts
from . import checks
from .generate import load_edit
from .loading import opened
from .scoring import said, scored

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Print or write one row a target."""
    checks.writable_file(args.out)
    model = opened(args)
    if model.concepts is None:
        raise RequestError("there is no judge for this model: `score` works on the pocket model")
    prompts = dict(_prompts(path) for path in args.hidden_prompt)
    erasures = [load_erasure(path) for path in args.erasure]
    wrong = set(prompts) - {erasure.hash() for erasure in erasures}
    if wrong:
        path = next(path for path in args.hidden_prompt if _prompts(path)[0] in wrong)
        raise FileFormatError(f"{path} belongs to another erasure than {', '.join(map(str, args.erasure))}")
    rows = []
    for path, erasure in zip(args.erasure, erasures, strict=True):
        rows += _score(model, model.concepts, path, erasure, prompts.get(erasure.hash(), []), args.images)
    if args.out:
        write_json(args.out, rows)
    else:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    return 0


def _prompts(path: Path) -> tuple[str, list[HiddenPrompt]]:
    """The hash of the erasure that a file's hidden prompts belong to, and they."""
    prompts, metadata = load_prompts(path)
    return metadata["hidden_prompt.erasure_hash"], prompts


def _score(
    model: Model, concepts: Concepts, path: Path, erasure: Erasure, prompts: list[HiddenPrompt], n: int
) -> list[dict[str, Any]]:
    """A row a target of one erasure."""
    edit = load_edit(model, [path], 1.0) or erasure.as_edit()
    tasks = [task_of(concepts, model.denoiser, erasure, i, n) for i in range(len(json.loads(erasure.fact("targets"))))]
    rows = [scored(model, task, i, edit, prompts) for i, task in enumerate(tasks)]
    for row in rows:
        log.info("%s", said(row, erasure.facts.get("erasure.method", "")))
    return rows
