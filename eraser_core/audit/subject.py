"""What is audited: the file's target, on the model that it was made for. Everything that can be refused without a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..erasure import Erasure, check_fits
from ..errors import RequestError
from ..evaluation.attacks.case import Case
from ..evaluation.attacks.seam import Opened
from ..hidden_prompt import HiddenPrompt
from ..pocket.concepts import with_article, without_article
from ..request import Request, Target

UNSAID = "this file does not say what it erases"


def case_of(
    model: Opened,
    erasure: Erasure,
    concept: str | None = None,
    anchor: str = "",
    *,
    hidden: Sequence[HiddenPrompt] = (),
    images: int = 16,
    seed: int = 0,
    beside: Erasure | None = None,
) -> Case:
    """The case of one concept; nothing is drawn. `beside` is a second LoRA, for the attack by settings.

    RequestError: another family or base, no such target, an unknown word, a second LoRA that does not fit.
    """
    target, retained = target_of(erasure, concept, anchor)
    check_base(model, erasure)
    if beside is not None:
        check_fits(beside, model.denoiser.family, model.denoiser.all_weights())
    target = _drawable(model, target)
    keys = sorted(hidden, key=lambda key: without_article(key.concept) != without_article(target.concept))
    return Case(model, erasure, target, retained, n=images, seed=seed, hidden=keys, beside=beside)


def targets_of(erasure: Erasure) -> tuple[str, ...]:
    """The concepts that a file says it erases; none where it says nothing."""
    request = _request(erasure)
    return tuple(target.concept for target in request.targets) if request else ()


def target_of(erasure: Erasure, concept: str | None = None, anchor: str = "") -> tuple[Target, tuple[str, ...]]:
    """The target that is audited and what its erasing kept: the file's first, or the one that `concept` names.

    A file that names no target takes the concept as it is given, synonyms after bars ("church|chapel"), with `anchor`.
    """
    request = _request(erasure)
    if request is not None and anchor:
        raise RequestError("the erasure says itself what is drawn in the concept's place: leave the anchor out")
    if concept is None or not concept.strip():
        if request is None:
            raise RequestError(f"{UNSAID}: name it with --concept WORD")
        return request.targets[0], request.retain
    first, *synonyms = (part.strip() for part in concept.split("|"))
    if request is None:
        return Target(first, anchor.strip(), tuple(filter(None, synonyms))), ()
    wanted = without_article(first.lower())
    for target in request.targets:
        if wanted in {without_article(p.lower()) for p in (target.concept, *target.synonyms)}:
            return target, request.retain
    named = ", ".join(t.concept for t in request.targets)
    raise RequestError(f"this erasure does not erase {concept!r}: it erases {named}")


def _request(erasure: Erasure) -> Request | None:
    said = erasure.facts.get("erasure.request")
    return Request.from_facts(json.loads(said)) if said else None


def check_base(model: Opened, erasure: Erasure) -> None:
    """RequestError where the erasure was made for another family or another model of this one.

    A plain LoRA names no base: there the names and shapes of its weights alone are looked at.
    """
    check_fits(erasure, model.denoiser.family, model.denoiser.all_weights())
    if erasure.base_hash and erasure.base_hash != model.denoiser.base_hash:
        raise RequestError(
            "this erasure was made on another model of this family, where its figures would mean nothing: audit it on the "
            "model it was made for"
        )


def _drawable(model: Opened, target: Target) -> Target:
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
    anchor = target.anchor and with_article(target.anchor)
    model.denoiser.encode([anchor])  # an anchor that nobody knows is said now
    return Target(known.phrase, anchor, target.synonyms, target.templates)
