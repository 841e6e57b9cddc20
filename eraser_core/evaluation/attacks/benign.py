"""Does it come back when the model is trained on something else?

Concept resurgence (arXiv 2410.08074): training on pictures that have nothing to do with the concept can bring it back.
"""

from __future__ import annotations

from ...pocket.concepts import without_article
from .case import GRADIENT, Attack, Case, Finding
from .fine_tuning import BATCH, STEPS, fine_tuned

PICTURES = 6


def subjects(case: Case) -> list[str]:
    """Up to six kept phrases, none of them the anchor; on the pocket model what it draws."""
    words = case.retained or tuple(c.phrase for c in (case.concepts.drawn if case.concepts else ()))
    gone = {without_article(p.lower()) for p in (case.target.concept, case.target.anchor)}
    return [phrase for phrase in words if without_article(phrase.lower()) not in gone][:PICTURES]


def run(case: Case) -> list[Finding] | str:
    """Low-rank training on pictures that the untouched model draws of other things."""
    others = subjects(case)
    if not others:
        return "the file names nothing that is kept, so there is nothing else to train on"
    contexts = case.denoiser.encode(others)
    z_0 = case.own_latents(contexts, len(contexts))
    drawn = [
        case.draw(case.contexts(), fine_tuned(case.denoiser, z_0, contexts, edit, seed=case.seed))
        for edit in (case.edit, None)
    ]
    way = f"after training on {len(others)} pictures of other things"
    return [case.found(f"{STEPS} steps", way, drawn[0], drawn[1])]


ATTACK = Attack(
    "benign",
    "Does it come back when the model is trained on pictures of other things?",
    "arXiv 2410.08074",
    f"{STEPS} x {BATCH} forward rows with gradient a column, then n x steps x 2 for the pictures",
    run,
    lambda case: 2 * STEPS * BATCH * GRADIENT + case.drawing(2 + PICTURES / case.n),
)
