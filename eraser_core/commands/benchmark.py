"""`benchmark`: a suite of the slides over a model and its erasures, with a report."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from ..denoiser import Edit
from ..erasure import load_erasure
from ..errors import FileFormatError, RequestError
from ..evaluation.suites.build import Asked, build
from ..evaluation.suites.items import Subject
from ..evaluation.suites.manifest import slug
from ..evaluation.suites.processes import Processes, processes
from ..evaluation.suites.run import Options, run_suite
from ..hidden_prompt import HiddenPrompt, load_prompts
from ..locks import LOCK, locked
from ..many.files import listed
from ..models import Model
from .folder import of_run
from .generate import load_edit
from .interrupt import Interrupted, stops_between_steps
from .loading import opened, usable

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """0 when done, 130 when stopped by Ctrl-C."""
    args.device = usable(args.device)
    others = processes(args.device)
    if not others.is_main:
        logging.getLogger().setLevel(logging.WARNING)
    device = others.device(args.device)
    model = opened(args, device)
    subjects = _subjects(listed(args.erasure), args.hidden_prompt)
    edits = {subject.name: _edit(model, subject) for subject in subjects}
    asked = Asked(
        args.images, args.classes, args.prompts, tuple(args.artist or ()), args.weights, args.reference, device
    )
    return _run(model, args, subjects, edits, asked, others)


def _run(
    model: Model,
    args: argparse.Namespace,
    subjects: Sequence[Subject],
    edits: dict[str, Edit],
    asked: Asked,
    others: Processes,
) -> int:
    suite = build(args.suite, model, subjects, asked)
    try:
        alone = locked(args.out / LOCK, args.out) if others.is_main else nullcontext()
        with alone, stops_between_steps() as check:
            options = Options(args.batch, args.maps, args.force)
            run_suite(model, suite, subjects, edits, args.out, others, options, check)
    except Interrupted:
        log.info("stopped; the same command goes on")
        return 130
    return 0


def _edit(model: Model, subject: Subject) -> Edit:
    return load_edit(model, [subject.path], 1.0) or subject.erasure.as_edit()


def _subjects(erasures: Sequence[Path], prompt_files: Sequence[Path]) -> tuple[Subject, ...]:
    """The erasures under names of their own, each with the hidden prompts that were trained with it."""
    prompts: dict[str, tuple[HiddenPrompt, ...]] = {}
    for path in prompt_files:
        found, metadata = load_prompts(path)
        prompts[metadata["hidden_prompt.erasure_hash"]] = tuple(found)
    subjects: list[Subject] = []
    for path in erasures:
        erasure = load_erasure(path)
        own = prompts.pop(erasure.hash(), ())
        name = _name(path)
        if slug(name).lower() in {slug(s.name).lower() for s in subjects}:
            name = f"{name} {erasure.hash()[:6]}"
        if any(s.erasure.hash() == erasure.hash() for s in subjects):
            raise RequestError(f"{path} was given twice (or is a copy of another erasure): give it once")
        subjects.append(Subject(name, path, erasure, own))
    if prompts:
        wrong = next(p for p in prompt_files if load_prompts(p)[1]["hidden_prompt.erasure_hash"] in prompts)
        raise FileFormatError(f"{wrong} belongs to none of the erasures given: add its erasure, or leave it out")
    return tuple(subjects)


def _name(path: Path) -> str:
    """The folder's name for files that lie where `erase` put them, else the file's."""
    return path.resolve().parent.name if of_run(path) else path.stem
