"""`score`: the figures of an erasure file on the pocket model."""

from __future__ import annotations

import argparse
import json
import logging
import sys

from ..erasure import load_erasure
from ..errors import FileFormatError, RequestError
from ..evaluation.pocket.scores import score, summary, untouched
from ..evaluation.pocket.tasks import task_of
from ..files import write_json
from ..hidden_prompt import HiddenPrompt, load_prompts
from . import checks
from .generate import load_edit
from .loading import opened

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Print or write one row a target."""
    checks.writable_file(args.out)
    model = opened(args)
    if model.concepts is None:
        raise RequestError("there is no judge for this model: `score` works on the pocket model")
    edit = load_edit(model, [args.erasure], 1.0)
    erasure = load_erasure(args.erasure)
    prompts: list[HiddenPrompt] = []
    if args.hidden_prompt:
        prompts, metadata = load_prompts(args.hidden_prompt)
        if metadata["hidden_prompt.erasure_hash"] != erasure.hash():
            raise FileFormatError(f"{args.hidden_prompt} belongs to another erasure than {args.erasure}")
    rows = []
    for i in range(len(json.loads(erasure.fact("targets")))):
        task = task_of(model.concepts, model.denoiser, erasure, i, args.images)
        before = untouched(model.examiner, task)
        other = prompts[(i + 1) % len(prompts)] if len(prompts) > 1 else None
        hidden = prompts[i] if prompts else None
        rows.append(score(model.examiner, task, edit or erasure.as_edit(), hidden, other, before))
        log.info("%s", summary(rows[-1]))
    if args.out:
        write_json(args.out, rows)
    else:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    return 0
