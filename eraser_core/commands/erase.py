"""`erase`: write the erasure and the hidden prompt, then draw and score before and after, which may be stopped."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import erasing as engine
from .. import estimate
from ..errors import RequestError
from ..evaluation.knows import enough, quick_look
from ..evaluation.pocket.tasks import Task, settings_for, tasks_for, together
from ..evaluation.report import grid
from ..evaluation.report.pictures import before_after
from ..files import peak_memory, write_bytes, write_json
from ..hidden_prompt import save_prompts
from ..keeping import choose
from ..methods import METHODS, method
from ..models import Model
from ..precision import DTYPES
from ..request import Request
from ..training import Step
from . import checks, folder
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
        _write(to, args.replaces, model, result)
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
    anchors = args.anchor or []
    if not args.concept:
        raise RequestError("name what to erase: --concept church")
    if not all(concept.split("|")[0].strip() for concept in args.concept):
        raise RequestError("a concept to erase is empty: name what should vanish, as in --concept church")
    checks.named(args.retain or (), "--retain")
    if len(anchors) > len(args.concept):
        raise RequestError(f"{len(anchors)} anchors were given for {len(args.concept)} concepts: one each at most")
    words = [[part.strip() for part in concept.split("|")] for concept in args.concept]
    wanted = [(name, synonyms) for name, *synonyms in words]
    chosen: list[str | None] = [*anchors, *[None] * (len(wanted) - len(anchors))]
    if model.concepts is None:
        found = choose(model.denoiser, wanted, chosen, args.retain, args.seed, args.kind)
        for note in found.notes:
            log.info("%s", note)
        if args.retain is None:
            log.info("--retain takes other words to keep, or none; --kind says what a concept is")
        return found.request, []
    tasks = tasks_for(
        model.concepts, model.denoiser, wanted, chosen, args.retain, seed=args.seed, n=max(args.images, 1)
    )
    return together(tasks, args.seed), tasks


def _settings(args: argparse.Namespace, model: Model, request: Request, tasks: Sequence[Task]) -> Any:
    """The method's settings; what cannot be done with this request is refused before anything is drawn."""
    chosen = method(args.method)
    given = {k.removeprefix("setting_"): v for k, v in vars(args).items() if k.startswith("setting_") and v is not None}
    given = settings_for(tasks, chosen.settings.model_fields) | given
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
    progress = Training(0 if args.resume else settings.filled(request), settings.iterations)
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


def _write(to: folder.Results, replaces: Sequence[str], model: Model, result: engine.Erased) -> None:
    # The checkpoint goes last: until both files are whole, a killed run goes on from it to the same two files.
    folder.replace_erasure(to, result.erasure, replaces)
    if result.prompts and result.key_seed is not None:
        facts = {"hidden_prompt.family": model.denoiser.family, "hidden_prompt.base_hash": model.denoiser.base_hash}
        save_prompts(to.prompt, result.prompts, result.key_seed, result.erasure.hash(), facts)
    else:
        to.prompt.unlink(missing_ok=True)  # an earlier run's
    folder.remove_earlier(to, replaces)
    (to.out / folder.CHECKPOINT).unlink(missing_ok=True)
    _write_metrics(to, result, [])
    log.info("written: %s, to share or use (%.1f MB)", to.erasure, to.erasure.stat().st_size / 1e6)
    if result.prompts:
        log.info("written: %s, private: it brings the concept back", to.prompt)


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
        _write_metrics(to, result, rows)
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


def _write_metrics(to: folder.Results, result: engine.Erased, rows: Sequence[dict[str, Any]]) -> None:
    metrics = {
        "targets": list(rows),
        "erase_seconds": result.seconds,
        "forward_rows": {"with_gradient": result.rows.grad, "without_gradient": result.rows.no_grad},
        "peak_memory_bytes": peak_memory(),
        "losses": list(result.losses),
    }
    write_json(to.out / folder.METRICS, metrics)
