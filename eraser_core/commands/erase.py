"""`erase`: write the erasure and the hidden prompt, then draw and score before and after, which may be stopped."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import erasing as engine
from .. import estimate
from ..backends.transformer_folder import transformer_folder
from ..evaluation.knows import enough, quick_look
from ..evaluation.pocket.tasks import Task, settings_for, tasks_for, together
from ..evaluation.report import grid
from ..evaluation.report.pictures import before_after
from ..files import write_bytes
from ..methods import METHODS, method
from ..models import Model
from ..precision import DTYPES
from ..request import Request
from ..training import Step
from . import asked, checks, erase_text, folder, written
from .interrupt import Interrupted, stops_between_steps
from .loading import opened
from .progress import Training
from .said import command, of_model, switch
from .scoring import said, scored

log = logging.getLogger(__name__)
MANY = 60  # pictures a column of a look that is not short


def run(args: argparse.Namespace) -> int:
    """0 when done, 130 when stopped by Ctrl-C."""
    if args.resume:
        checks.resumes_alone(args.switches)
        args = folder.resumed(args)
    out = args.out if args.resume else folder.claim(args.out, args.force)
    to_read = transformer_folder(Path(args.model))
    if to_read is not None:
        return erase_text.run(args, out, to_read)
    model = opened(args)
    request, tasks = _request(args, model)
    settings = _settings(args, model, request, tasks)
    if not args.resume and not args.no_check:
        _warn_of_unknown(model, tasks)
    with folder.held(out):
        if not args.resume:
            folder.claim(out, args.force)  # again: another run may have ended there since
            args.replaces = folder.earlier(out)
        try:
            result = _erase(args, out, model, request, settings)
        except Interrupted:
            device = [] if args.device == "auto" else ["--device", args.device]
            log.info("stopped; go on with: %s", command("erase", "--resume", out, *device))
            return 130
        to = folder.results(out, args.concept)
        written.write(to, args.replaces, result)
        return _look(args, to, model, result, tasks)


def _warn_of_unknown(model: Model, tasks: Sequence[Task]) -> None:
    """A quick look, where a judge is at hand: what the model does not draw, an erasure cannot take away."""
    for task in (task for task in tasks if task.kind != "category"):
        seen = quick_look(model, task.concept)
        if seen is not None and not enough(seen):
            log.warning(
                "the model hardly knows %r: %d of %d pictures show it. Its figures after erasing will look good whatever "
                "was erased; look with `%s`, or skip this with --no-check",
                task.concept,
                seen.hits,
                seen.n,
                command("knows", "--concept", task.concept),
            )


def _request(args: argparse.Namespace, model: Model) -> tuple[Request, list[Task]]:
    """What to erase and, on the pocket model, the tasks by which it is scored."""
    if model.concepts is None:
        return asked.request(args, model.denoiser), []
    wanted, chosen = asked.words(args)
    tasks = tasks_for(
        model.concepts, model.denoiser, wanted, chosen, args.retain, seed=args.seed, n=max(args.images, 1)
    )
    return together(tasks, args.seed), tasks


def _settings(args: argparse.Namespace, model: Model, request: Request, tasks: Sequence[Task]) -> Any:
    """The method's settings; what cannot be done with this request is refused before anything is drawn."""
    chosen = method(args.method)
    given = settings_for(tasks, chosen.settings.model_fields) | asked.settings(args)
    settings = engine.configure(chosen, model.denoiser.family, request, given)
    words = [word for target in request.targets for pair in target.pairs() for word in pair]
    checks.fits(model.denoiser.excess, [*words, *request.retain])
    return settings


def _erase(args: argparse.Namespace, out: Path, model: Model, request: Request, settings: Any) -> engine.Erased:
    chosen = method(args.method)
    for target in request.targets:
        log.info("erasing %r, drawing %r in its place", target.concept, target.anchor)
    checkpoint = out / folder.CHECKPOINT
    if not args.resume:
        folder.keep_arguments(out, args)
    if chosen.learner is None:
        return engine.erase(model.denoiser, request, chosen, settings, dtype=DTYPES[args.dtype])
    if model.concepts is None:
        plan = estimate.plan(model.denoiser, settings, chosen.learner, request)
        log.info("%s", estimate.check(estimate.need(plan), model.denoiser.device))
    progress = Training(0 if args.resume else settings.filled(request), settings.all_steps)
    with stops_between_steps() as check, progress:

        def report(step: Step) -> None:
            progress.step(step)
            check()

        if args.resume:
            return engine.resume(model.denoiser, METHODS, checkpoint, report)
        return engine.erase(
            model.denoiser,
            request,
            chosen,
            settings,
            key_seed=args.key_seed,
            on_step=report,
            on_fill=progress.fill,
            checkpoint=checkpoint,
            dtype=DTYPES[args.dtype],
        )


def _look(
    args: argparse.Namespace, to: folder.Results, model: Model, result: engine.Erased, tasks: Sequence[Task]
) -> int:
    """Draw and score what was erased; 130 when stopped by Ctrl-C, which takes nothing away."""
    if not args.images:
        return 0
    prompts = [to.prompt] if result.prompts else []
    files: list[str | Path] = ["--erasure", to.erasure, *switch("--hidden-prompt", prompts), *of_model(args)]
    try:
        write_bytes(to.out / folder.PICTURE, grid.png(before_after(model, result.erasure, result.prompts)))
        log.info("written: %s, before and after", to.out / folder.PICTURE)
        rows = _score(args, files, to, model, result, tasks)
    except KeyboardInterrupt:
        log.info("stopped while scoring; the erasure is kept: %s", to.erasure)
        return 130
    if rows:
        written.write_metrics(to, result, rows)
    for row in rows:
        log.info("%s: %s", to.erasure, said(row, args.method))
    return 0


def _score(
    args: argparse.Namespace,
    files: Sequence[str | Path],
    to: folder.Results,
    model: Model,
    result: engine.Erased,
    tasks: Sequence[Task],
) -> list[dict[str, Any]]:
    """A row for every object and style."""
    rows: list[dict[str, Any]] = []
    edit = result.erasure.as_edit()
    for i, task in enumerate(tasks):
        if task.kind == "category":
            suite = command("benchmark", "pocket", *files, "--out", to.out / "evaluation")
            log.info("a category is scored by: %s", suite)
            continue
        rows.append(scored(model, task, i, edit, result.prompts))
    if rows and len(rows) == len(tasks) and args.images < MANY:
        more = command("score", *files, "--images", str(MANY))
        log.info("this was a short look, %d pictures a column; for more: %s", args.images, more)
    return rows
