"""The erasure of a plan: in closed form from the ledger's sums, or by a method that is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import erasing
from ..denoiser import Denoiser
from ..erasure import Erasure
from ..hidden_prompt import HiddenPrompt
from ..latents import OnFill
from ..methods import METHODS, Method
from ..records import OptOutRecord
from ..request import Request
from ..text_moments import KEPT, OVERSHOOT, RIDGE, kept_moment, solved_map
from ..text_space import entries
from ..training import OnStep, read_checkpoint
from .ledger import Changes, Ledger
from .plan import Plan
from .register import Register

CLOSED = "uce"  # the one method whose sums go on from run to run


@dataclass(frozen=True)
class Made:
    """The erasure, its hidden prompts where the method learns some, and what the closed form had to read."""

    erasure: Erasure
    prompts: tuple[HiddenPrompt, ...]
    key_seed: int | None
    changes: Changes | None


@dataclass(frozen=True)
class Hooks:
    """Who hears of the course of a run; each may raise to stop it."""

    on_target: Callable[[int], None] = lambda count: None
    on_fill: OnFill | None = None
    on_step: OnStep | None = None


def closed_form(
    denoiser: Denoiser, plan: Plan, register: Register, ledger: Path, dtype: torch.dtype, hooks: Hooks
) -> Made:
    """UCE's joint least squares over the whole register, `joint_map` of text_moments.py."""
    kept = Ledger(denoiser, ledger)
    changes = kept.update(plan.request.targets, hooks.on_target)
    found = solved_map(kept.sums, kept_moment(denoiser, plan.request, general=True), KEPT, RIDGE, OVERSHOOT)
    method = METHODS[CLOSED]
    made = entries(denoiser.weights("xattn-kv"), *found.factors(), "kv")
    settings = erasing.configure(method, denoiser.family, plan.request, {})
    used = settings.model_dump(by_alias=True)
    erasure = erasing.described(denoiser, told(plan), method.name, method.paper, used, made).to(dtype)
    return Made(signed(erasure, plan, register), (), None, changes)


def by_method(
    denoiser: Denoiser,
    plan: Plan,
    register: Register,
    method: Method,
    values: dict[str, Any],
    checkpoint: Path,
    dtype: torch.dtype,
    hooks: Hooks,
) -> Made:
    """All names in one run of any method. An interrupted training of the same names goes on from its checkpoint."""
    settings = erasing.configure(method, denoiser.family, plan.request, values)
    if method.learner is not None and _begun(checkpoint, denoiser, method, plan.request, settings):
        result = erasing.resume(denoiser, METHODS, checkpoint, hooks.on_step)
    else:
        result = erasing.erase(
            denoiser,
            plan.request,
            method,
            settings,
            on_step=hooks.on_step,
            on_fill=hooks.on_fill,
            checkpoint=checkpoint if method.learner is not None else None,
            dtype=dtype,
        )
    shown = erasing.described(denoiser, told(plan), method.name, method.paper, {}, result.erasure.entries)
    names = {"erasure.settings": result.erasure.facts["erasure.settings"]}
    erasure = replace(result.erasure, facts={**shown.facts, **names})
    return Made(signed(erasure, plan, register), result.prompts, result.key_seed, None)


def _begun(checkpoint: Path, denoiser: Denoiser, method: Method, request: Request, settings: Any) -> bool:
    if not checkpoint.is_file():
        return False
    facts, _ = read_checkpoint(checkpoint)
    same = facts.base_hash == denoiser.base_hash and facts.method == method.name
    return same and facts.request == request and method.settings(**facts.settings) == settings


def told(plan: Plan) -> Request:
    """The request as the file says it: what the register has as a hash only, stays one."""
    pairs = zip(plan.entries, plan.request.targets, strict=True)
    targets = tuple(t if e.name else replace(t, concept=e.label, synonyms=()) for e, t in pairs)
    return replace(plan.request, targets=targets)


def signed(erasure: Erasure, plan: Plan, register: Register) -> Erasure:
    """The erasure with what its file says of the register."""
    said = OptOutRecord(
        register_hash=register.digest,
        request=request_digest(plan.request),
        names=len(plan.entries),
        left_out=len(plan.left_out),
        verified=False,
    )
    return replace(erasure, facts={**erasure.facts, "erasure.optout": said.model_dump_json()})


def request_digest(request: Request) -> str:
    """Equal for equal requests."""
    return hashlib.sha256(json.dumps(request.facts()).encode("utf-8")).hexdigest()
