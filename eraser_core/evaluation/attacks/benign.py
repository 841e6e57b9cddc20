"""Does it come back when the model is trained on something else?

Concept resurgence (arXiv 2410.08074): training on pictures that have nothing to do with the concept can bring it back.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...denoiser import Edit
from ...pocket.concepts import without_article
from .case import GRADIENT, Attack, Case, Finding
from .fine_tuning import BATCH, STEPS, fine_tuned

PICTURES = 6


def subjects(case: Case) -> list[str]:
    """Up to six kept phrases, none of them the anchor; on the pocket model what it draws."""
    words = case.retained or tuple(c.phrase for c in (case.concepts.drawn if case.concepts else ()))
    gone = {without_article(p.lower()) for p in (case.target.concept, case.target.anchor)}
    return [phrase for phrase in words if without_article(phrase.lower()) not in gone][:PICTURES]


def training(case: Case) -> float:
    """Forward rows: the pictures of other things, the training of both models on them, and what both draw then."""
    return 2 * STEPS * BATCH * GRADIENT + case.drawing(2 + PICTURES / case.n) if subjects(case) else 0


def tuned(case: Case, others: Sequence[str]) -> tuple[Edit, Edit]:
    """The erased and the untouched model after low-rank training on pictures that the latter draws of other things."""
    contexts = case.denoiser.encode(others)
    z_0 = case.own_latents(contexts, len(contexts))
    erased, untouched = (fine_tuned(case.denoiser, z_0, contexts, edit, seed=case.seed) for edit in (case.edit, None))
    return erased, untouched


def run(case: Case) -> list[Finding] | str:
    """The concept by its name, on both."""
    others = subjects(case)
    if not others:
        return "the file names nothing that is kept, so there is nothing else to train on"
    erased, untouched = (case.draw(case.contexts(), edit) for edit in tuned(case, others))
    return [
        case.found(f"{STEPS} steps", f"after training on {len(others)} pictures of other things", erased, untouched)
    ]


ATTACK = Attack(
    "benign",
    "Does it come back when the model is trained on pictures of other things?",
    "arXiv 2410.08074",
    f"{STEPS} x {BATCH} forward rows with gradient a column, then n x steps x 2 for the pictures",
    run,
    training,
)
