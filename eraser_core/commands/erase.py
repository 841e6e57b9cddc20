"""`erase`: write the erasure and the hidden prompt, then draw and score before and after."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import erasing as engine
from .. import estimate
from ..anchors import anchored
from ..errors import RequestError
from ..evaluation.knows import enough, quick_look
from ..evaluation.pocket.scores import score as score_task
from ..evaluation.pocket.scores import summary, untouched
from ..evaluation.pocket.tasks import Task, settings_for, tasks_for, together
from ..evaluation.report import grid
from ..evaluation.report.pictures import before_after
from ..files import peak_memory, write_bytes, write_json
from ..hidden_prompt import save_prompts
from ..methods import METHODS, method
from ..models import Model
from ..precision import DTYPES
from ..request import Request
from ..training import Step
from . import checks, folder
from .interrupt import Interrupted, stops_between_steps
from .loading import opened
from .progress import Training

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """0 when done, 130 when stopped by Ctrl-C."""
    if args.resume:
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
            log.info("stopped; go on with: python -m eraser_core erase --resume %s", out)
            return 130
        _write(folder.results(out, args.concept), args.replaces, model, result, tasks, args.images)
    return 0


def _warn_of_unknown(model: Model, tasks: Sequence[Task]) -> None:
    """A quick look, where a judge is at hand: what the model does not draw, an erasure cannot take away."""
    for task in (task for task in tasks if task.kind != "category"):
        seen = quick_look(model, task.concept)
        if seen is not None and not enough(seen):
            log.warning(
                "the model hardly knows %r: %d of %d pictures show it. Its figures after erasing will look good whatever "
                "was erased; look with `python -m eraser_core knows --concept %s`, or skip this with --no-check",
                task.concept,
                seen.hits,
                seen.n,
                task.concept,
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
        retain = tuple(args.retain or ())
        return Request(anchored(model.denoiser, wanted, chosen, retain), retain, args.seed), []
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


def _write(
    to: folder.Results, replaces: Sequence[str], model: Model, result: engine.Erased, tasks: Sequence[Task], n: int
) -> None:
    # The checkpoint goes last: until both files are whole, a killed run goes on from it to the same two files.
    out = to.out
    folder.replace_erasure(to, result.erasure, replaces)
    if result.prompts and result.key_seed is not None:
        facts = {"hidden_prompt.family": model.denoiser.family, "hidden_prompt.base_hash": model.denoiser.base_hash}
        save_prompts(to.prompt, result.prompts, result.key_seed, result.erasure.hash(), facts)
    else:
        to.prompt.unlink(missing_ok=True)  # an earlier run's
    folder.remove_earlier(to, replaces)
    (out / folder.CHECKPOINT).unlink(missing_ok=True)
    edit, prompts = result.erasure.as_edit(), result.prompts
    if n:
        write_bytes(out / folder.PICTURE, grid.png(before_after(model, result.erasure, prompts)))
    rows: list[dict[str, Any]] = []
    for i, task in enumerate(tasks if n else ()):
        if task.kind == "category":
            log.info("a category is scored by `python -m eraser_core benchmark pocket`")
            continue
        log.info("scoring %r, %d pictures a column", task.concept, n)
        hidden = prompts[i] if prompts else None
        other = prompts[(i + 1) % len(prompts)] if len(prompts) > 1 else None
        rows.append(score_task(model.examiner, task, edit, hidden, other, untouched(model.examiner, task)))
        log.info("%s", summary(rows[-1]))
    metrics = {
        "targets": rows,
        "erase_seconds": result.seconds,
        "forward_rows": {"with_gradient": result.rows.grad, "without_gradient": result.rows.no_grad},
        "peak_memory_bytes": peak_memory(),
        "losses": list(result.losses),
    }
    write_json(out / folder.METRICS, metrics)
    log.info("written to %s: %s", out, ", ".join(sorted(p.name for p in out.iterdir())))
