"""`score`: the figures of an erasure file on the pocket model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..erasure import load_erasure
from ..errors import FileFormatError, RequestError
from ..evaluation.pocket.tasks import Task, category_of, task_of
from ..files import write_json
from ..hidden_prompt import HiddenPrompt, load_prompts
from ..many.files import listed
from ..models import Model
from ..pocket import Concepts
from . import checks
from .generate import load_edit
from .loading import opened
from .said import command, of_model
from .scoring import scored, table


def run(args: argparse.Namespace) -> int:
    """Print or write one row a target."""
    checks.writable_file(args.out)
    model = opened(args)
    if model.concepts is None:
        raise RequestError("there is no judge for this model: `score` works on the pocket model")
    args.erasure = listed(args.erasure)
    edits = [load_edit(model, [path], 1.0) for path in args.erasure]  # refuses what was made for another model
    prompts = dict(_prompts(path) for path in args.hidden_prompt)
    erasures = [load_erasure(path) for path in args.erasure]
    wrong = set(prompts) - {erasure.hash() for erasure in erasures}
    if wrong:
        path = next(path for path in args.hidden_prompt if _prompts(path)[0] in wrong)
        raise FileFormatError(f"{path} belongs to another erasure than {', '.join(map(str, args.erasure))}")
    tasks = [_tasks(model, model.concepts, path, args) for path in args.erasure]
    rows = []
    for path, erasure, edit, asked in zip(args.erasure, erasures, edits, tasks, strict=True):
        hidden = prompts.get(erasure.hash(), [])
        found = [scored(model, task, i, edit or erasure.as_edit(), hidden) for i, task in enumerate(asked)]
        if not args.json:
            said = (table(row, erasure.facts.get("erasure.method", "")) for row in found)
            sys.stdout.write(f"{path}\n" + "\n".join(said))
        rows += found
    if args.out:
        write_json(args.out, rows)
    if args.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    return 0


def _prompts(path: Path) -> tuple[str, list[HiddenPrompt]]:
    """The hash of the erasure that a file's hidden prompts belong to, and they."""
    prompts, metadata = load_prompts(path)
    return metadata["hidden_prompt.erasure_hash"], prompts


def _tasks(model: Model, concepts: Concepts, path: Path, args: argparse.Namespace) -> list[Task]:
    """The tasks of an erasure's targets; RequestError where one is a category, with what scores it."""
    erasure = load_erasure(path)
    targets: list[str] = json.loads(erasure.fact("targets"))
    if any(category_of(concepts, target) is not None for target in targets):
        out = path.parent / "evaluation"
        suite = command("benchmark", "pocket", "--erasure", path, *of_model(args), "--out", out)
        raise RequestError(f"{path} erases a category, of which no single object is right: score it with `{suite}`")
    return [task_of(concepts, model.denoiser, erasure, i, args.images) for i in range(len(targets))]
