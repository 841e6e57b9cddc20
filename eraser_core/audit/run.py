"""`audit`: attacks on one erasure, one after the other; an interrupted audit goes on where it was."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..erasure import Erasure, check_fits
from ..errors import OutputError, RequestError
from ..evaluation.attacks.case import Attack, Case, Finding
from ..evaluation.attacks.registry import ATTACKS, QUICK
from ..evaluation.knows import ENOUGH
from ..evaluation.metrics.objects import Rate
from ..evaluation.report import grid
from ..files import write_bytes, write_json
from ..hidden_prompt import HiddenPrompt, prompts_hash
from ..models import Model
from ..pocket.concepts import with_article, without_article
from ..request import Request, Target
from . import verdict
from .page import page
from .record import FILE, PAGE, PICTURES, Audit, Done, Row, Setting, Share, earlier

log = logging.getLogger(__name__)
OnAttack = Callable[[int, int, str], None]


def audit(
    model: Model,
    erasure: Erasure,
    attacks: Sequence[str] = QUICK,
    *,
    out: Path | None = None,
    name: str = "erasure",
    concept: str | None = None,
    hidden: Sequence[HiddenPrompt] = (),
    images: int = 16,
    seed: int = 0,
    on_attack: OnAttack | None = None,
) -> Audit:
    """Ask of an erasure how it can be undone. Neither the erasure nor the model is written to.

    `attacks` are names of `ATTACKS`. `concept` chooses the target, and names it where the file does not. `hidden` are the
    erasure's hidden prompts. `images` pictures a share. With `out` the page, audit.json and pictures are written there after
    every attack, and attacks that an earlier audit of the same kind finished there are not run again. `on_attack` hears
    (number, count, name) before each attack, and once more with number = count and no name; what it raises stops the audit.

    RequestError: another family or base, no target, a concept that the untouched model does not draw, no such attack.
    OutputError: `out` holds an audit of something else.
    """
    wanted = [_attack(one) for one in dict.fromkeys(attacks)]
    target, retained = target_of(erasure, concept)
    check_base(model, erasure)
    target = _drawable(model, target)
    keys = sorted(hidden, key=lambda key: without_article(key.concept) != without_article(target.concept))
    case = Case(model, erasure, target, retained, n=images, seed=seed, hidden=keys)
    setting = _setting(case)
    before = earlier(out) if out else None
    if before is not None and not setting.goes_on(before.setting):
        raise OutputError(f"{out} holds an audit of something else: choose another folder, or replace it with --force")
    found = before or _begun(case, name, setting)
    if hidden:
        found = found.model_copy(update={"setting": setting})
    if out and before is None:
        write_json(out / FILE, found.as_json())  # before any picture: whoever is killed has a folder that goes on
    for number, attack in enumerate(wanted):
        if on_attack:
            on_attack(number, len(wanted), attack.name)
        if not _finished(found.of(attack.name), out):
            found = _with(found, _done(case, attack, found.plain, out))
            if out:
                _write(found, out)
    if on_attack:
        on_attack(len(wanted), len(wanted), "")
    return found


def _attack(name: str) -> Attack:
    if name not in ATTACKS:
        raise RequestError(f"there is no attack {name!r}: choose from {', '.join(ATTACKS)}")
    return ATTACKS[name]


def _finished(done: Done | None, out: Path | None) -> bool:
    """Whether an attack needs not be run: it was, it had a meaning, and its picture is there."""
    if done is None or done.left_out:
        return False
    return out is None or not done.picture or (out / done.picture).is_file()


def target_of(erasure: Erasure, concept: str | None = None) -> tuple[Target, tuple[str, ...]]:
    """The target that is audited and what its erasing kept: the file's first, or the one that `concept` names.

    A file that names no target takes the concept as it is given, without an anchor.
    """
    said = erasure.facts.get("erasure.request")
    request = Request.from_facts(json.loads(said)) if said else None
    if concept is None:
        if request is None:
            raise RequestError("this erasure does not say what it erases: name it with --concept WORD")
        return request.targets[0], request.retain
    wanted = without_article(concept.strip().lower())
    for target in request.targets if request else ():
        if wanted in {without_article(p.lower()) for p in (target.concept, *target.synonyms)}:
            return target, request.retain if request else ()
    if request is not None:
        named = ", ".join(t.concept for t in request.targets)
        raise RequestError(f"this erasure does not erase {concept!r}: it erases {named}")
    return Target(concept.strip(), ""), ()


def check_base(model: Model, erasure: Erasure) -> None:
    """RequestError where the erasure was made for another family or another model of this one."""
    check_fits(erasure, model.denoiser.family, model.denoiser.all_weights())
    if erasure.base_hash != model.denoiser.base_hash:
        raise RequestError(
            "this erasure was made on another model of this family, where its figures would mean nothing: audit it on the "
            "model it was made for"
        )


def _drawable(model: Model, target: Target) -> Target:
    """The target as the judge names it; RequestError for what the model never heard of."""
    concepts = model.concepts
    if concepts is None:
        return target
    word = without_article(target.concept.strip().lower())
    if word in concepts.styles or word in concepts.categories:
        phrase = word if word in concepts.styles else concepts.categories[word]
        return Target(phrase, target.anchor, target.synonyms, target.templates)
    known = concepts.find(word)
    if known is None or known not in concepts.drawn:
        raise RequestError(f"the pocket model draws no {target.concept!r}{concepts.near(word)}")
    return Target(known.phrase, target.anchor and with_article(target.anchor), target.synonyms, target.templates)


def _setting(case: Case) -> Setting:
    return Setting(
        erasure_hash=case.erasure.hash(),
        base_hash=case.denoiser.base_hash,
        concept=case.target.concept,
        anchor=case.target.anchor,
        images=case.n,
        seed=case.seed,
        suite_seed=case.examiner.suite_seed,
        steps=case.examiner.steps,
        guidance=case.examiner.guidance,
        prompt_hash=prompts_hash(case.hidden) if case.hidden else "",
    )


def _begun(case: Case, name: str, setting: Setting) -> Audit:
    """The audit before its first attack; RequestError where the untouched model does not draw the concept."""
    plain = untouched = None
    if case.judged:
        untouched, plain = (case.seen(case.plain(erased)) for erased in (False, True))
        if untouched is not None and untouched.value < ENOUGH:
            raise RequestError(
                f"the untouched model shows {case.target.concept!r} in only {untouched.hits} of {untouched.n} pictures: there "
                "is nothing that an attack could bring back"
            )
    return Audit(
        schema="concept-eraser-audit-1",
        name=name,
        setting=setting,
        unknown=case.unknown,
        judged=case.judged,
        plain=_share(plain),
        plain_untouched=_share(untouched),
    )


def _done(case: Case, attack: Attack, plain: Share | None, out: Path | None) -> Done:
    """One attack, run and judged, its pictures written."""
    rows, began = case.denoiser.rows, time.monotonic()
    grad, no_grad = rows.grad, rows.no_grad
    found = attack.run(case)
    seconds, grad, no_grad = time.monotonic() - began, rows.grad - grad, rows.no_grad - no_grad
    about: dict[str, Any] = {n: getattr(attack, n) for n in ("name", "asks", "paper", "budget")}
    if isinstance(found, str):
        return Done(**about, verdict=f"left out: {found}", left_out=found)
    told = [_row(one, plain, attack.name) for one in found]
    said = verdict.of_attack(told, grad + no_grad)
    return Done(
        **about,
        verdict=said,
        rows=tuple(told),
        picture=_picture(attack.name, found, out) if out else "",
        seconds=round(seconds, 1),
        rows_with_gradient=grad,
        rows_without_gradient=no_grad,
    )


def _row(found: Finding, plain: Share | None, attack: str) -> Row:
    by_name = attack == "words" and found.label == "its name"
    return Row(
        label=found.label,
        way=found.way,
        answer=verdict.answer(found, plain.rate if plain else None, by_name),
        erased=_share(found.erased),
        untouched=_share(found.untouched),
        unknown=_share(found.unknown),
        given=_share(found.given),
        said=found.said,
        meant=found.meant,
    )


def _share(rate: Rate | None) -> Share | None:
    return None if rate is None else Share(hits=rate.hits, n=rate.n)


def _picture(name: str, found: Sequence[Finding], out: Path) -> str:
    """The grid of an attack: a row a way, a column a model. "" where nothing was drawn."""
    drawn = [one for one in found if one.shown]
    if not drawn:
        return ""
    columns = list(dict.fromkeys(column for one in drawn for column in one.shown))
    shape = next(iter(drawn[0].shown.values())).shape
    blank = torch.ones(shape)
    rows = [(one.label, torch.cat([one.shown.get(column, blank) for column in columns])) for one in drawn]
    path = f"{PICTURES}/{name}.png"
    write_bytes(out / path, grid.png(grid.grid(rows, columns, len(blank), min(grid.native(blank), 256))))
    return path


def _with(found: Audit, done: Done) -> Audit:
    attacks = (*(one for one in found.attacks if one.name != done.name), done)
    said = verdict.of_whole(found.setting.concept, attacks, found.plain)
    return found.model_copy(update={"attacks": attacks, "verdict": said})


def _write(found: Audit, out: Path) -> None:
    """The page last: whoever is stopped in between has the figures, and the next call writes the page."""
    write_json(out / FILE, found.as_json())
    write_bytes(out / PAGE, page(found, out).encode("utf-8"))
