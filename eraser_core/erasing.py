"""erase(denoiser, request, method, settings) -> an erasure, and the hidden prompts where the method learns them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from . import model_spec
from .denoiser import Denoiser, Rows
from .erasure import Entry, Erasure, as_facts
from .errors import RequestError
from .hidden_prompt import HiddenPrompt
from .joint_edit import confined
from .latents import OnFill
from .methods import METHODS, Method
from .request import Request
from .text_readers import TextModel, places
from .training import Learner, OnStep, Step, TrainingSettings, read_checkpoint, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erased:
    """What a run gives: the erasure as its file holds it, the hidden prompts (none for some methods), and its course.

    `rows` and `seconds` count everything from the words to the tensors, filling the pools of z_t included; of a resumed
    run, from where it went on.
    """

    erasure: Erasure
    prompts: tuple[HiddenPrompt, ...]
    key_seed: int | None
    losses: tuple[Mapping[str, float], ...]
    seconds: float
    rows: Rows


@dataclass(frozen=True)
class _Begun:
    """When a run began, and how many rows its model had gone through by then."""

    time: float
    rows: Rows

    def spent(self, denoiser: Denoiser) -> tuple[float, Rows]:
        now = denoiser.rows
        rows = Rows(now.grad - self.rows.grad, now.no_grad - self.rows.no_grad)
        return time.monotonic() - self.time, rows


def _begin(denoiser: Denoiser) -> _Begun:
    return _Begun(time.monotonic(), replace(denoiser.rows))


def configure(method: Method, family: str, request: Request, values: Mapping[str, Any]) -> Any:
    """A method's settings for a request on a family of models; RequestError names each wrong value in words."""
    try:
        settings = method.configure(family, values, bool(request.retain), len(request.targets))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors())
        raise RequestError(f"settings of {method.name}: {wrong}") from error
    if isinstance(settings, TrainingSettings):
        settings.suits(request)
    return settings


def erase(
    denoiser: Denoiser,
    request: Request,
    method: Method,
    settings: Any,
    *,
    key_seed: int | None = None,
    on_step: OnStep | None = None,
    on_fill: OnFill | None = None,
    checkpoint: Path | None = None,
    dtype: torch.dtype = torch.float16,
) -> Erased:
    """Erase the request's concepts from a model, which itself is never written to.

    `key_seed` is where the hidden prompt's search starts; None takes the operating system's entropy, and then the same
    request gives another prompt each time. `on_fill` hears how many z_t have come into the pools since it was last called, `on_step` of
    every step after that; both may raise to stop. `checkpoint` is a file that an
    interrupted run leaves for `resume`. `dtype` is the file's: the result holds the numbers as rounded for it. The
    closed forms need none of these.
    """
    began = _begin(denoiser)
    if method.learner is not None:
        learner = method.learner(denoiser, request, settings, key_seed)
        learner.begin(on_fill)
        return _train(learner, method, (), on_step, checkpoint, dtype, began)
    return solve(denoiser, request, method, settings, dtype)


def solve(
    model: TextModel, request: Request, method: Method, settings: Any, dtype: torch.dtype = torch.float16
) -> Erased:
    """`erase` by a closed form, for which a model need not be able to draw; RequestError for a method that trains."""
    if method.solve is None:
        raise RequestError(f"the method {method.name!r} has no closed form: choose {_closed()}")
    began = time.monotonic()
    entries: dict[str, Entry] = {}
    for place in places(model):
        entries |= method.solve(place, request, settings)
    used = settings.model_dump(by_alias=True)
    erasure = described(model, request, method.name, method.paper, used, entries).to(dtype)
    return Erased(erasure, (), None, (), time.monotonic() - began, Rows())


def _closed() -> str:
    return ", ".join(name for name, method in METHODS.items() if method.solve)


def resume(
    denoiser: Denoiser, methods: Mapping[str, Method], checkpoint: Path, on_step: OnStep | None = None
) -> Erased:
    """Go on from a checkpoint to the tensors that the run would have given uninterrupted."""
    began = _begin(denoiser)
    facts, state = read_checkpoint(checkpoint)
    if facts.base_hash != denoiser.base_hash:
        raise RequestError(f"{checkpoint} was begun on another model ({facts.family}): give that one")
    method = methods.get(facts.method)
    if method is None or method.learner is None:
        raise RequestError(f"the method {facts.method!r} has nothing to resume")
    settings: Any = method.settings(**facts.settings)
    learner = method.learner(denoiser, facts.request, settings, facts.key_seed)
    learner.load_state(state)
    return _train(learner, method, facts.losses, on_step, checkpoint, getattr(torch, facts.dtype), began)


def _train(
    learner: Learner,
    method: Method,
    done: Sequence[Mapping[str, float]],
    on_step: OnStep | None,
    checkpoint: Path | None,
    dtype: torch.dtype,
    began: _Begun,
) -> Erased:
    denoiser, request = learner.denoiser, learner.request
    used = learner.settings.model_dump(by_alias=True)
    facts = _facts(denoiser, request, method, used, dtype)
    losses = train(learner, on_step, checkpoint, facts | {"key_seed": learner.key_seed}, done)
    entries, prompts = learner.edit.entries(), tuple(learner.prompts())
    if learner.settings.confine:
        log.info("the change is confined to the concepts' texts, and hidden prompts are learnt on")
        entries, prompts = confined(denoiser, request, entries, prompts, learner.settings.confine)
    erasure = described(denoiser, request, method.name, method.paper, used, entries).to(dtype)
    if learner.settings.confine:
        edit, trained, total = erasure.as_edit(), len(losses), learner.settings.all_steps

        def again(step: int) -> None:
            if on_step:
                on_step(Step(trained + step, total, losses[-1], learner, edit))

        prompts = tuple(learner.relearn(edit, prompts, again))
    return Erased(erasure, prompts, learner.key_seed, tuple(losses), *began.spent(denoiser))


def _facts(
    denoiser: Denoiser, request: Request, method: Method, settings: Mapping[str, Any], dtype: torch.dtype
) -> dict[str, Any]:
    """What a run was asked for, as JSON values."""
    return {
        "method": method.name,
        "request": request.facts(),
        "settings": settings,
        "family": denoiser.family,
        "base_hash": denoiser.base_hash,
        "dtype": str(dtype).removeprefix("torch."),
    }


def described(
    model: TextModel,
    request: Request,
    method: str,
    paper: str,
    settings: Mapping[str, Any],
    entries: Mapping[str, Entry],
) -> Erasure:
    """The entries as an erasure whose metadata says how they came about."""
    said = {
        **model_spec.made_facts([(t.concept, t.anchor) for t in request.targets], method),
        "modelspec.prediction_type": model.schedule.prediction.removesuffix("_prediction"),
        **as_facts(
            {
                "method": method,
                "paper": paper,
                "targets": [t.concept for t in request.targets],
                "anchor": [t.anchor for t in request.targets],
                "retain": list(request.retain),
                "request": request.facts(),
                "settings": settings,
                "seed": request.seed,
            }
        ),
    }
    names = model.file_names()
    modules = dict.fromkeys(key.rpartition(".")[0] for key in entries)
    return Erasure(entries, {m: names[m] for m in modules}, model.family, model.base_hash, said)
