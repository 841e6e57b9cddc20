"""Can a context be learnt that brings it back? See learnt_context.py for the equation.

CCE (arXiv 2308.01508), over all tokens of one context. The pictures are drawings by hand on the pocket model, and elsewhere
what the untouched model draws, so the attack needs no picture of the user's.
"""

from __future__ import annotations

import time

from torch import Tensor

from ...denoiser import Edit
from .case import Attack, Case, Finding
from .learnt_context import learn_context

PICTURES, ITERATIONS, BATCH = 12, 200, 8


def learnt(case: Case, z_0: Tensor, edit: Edit | None) -> Tensor:
    """n pictures [n, 3, h, w] drawn through a context that was learnt from z_0."""
    start = case.denoiser.encode(["a picture"])
    context = learn_context(case.denoiser, z_0, start, edit, iterations=ITERATIONS, batch=BATCH, seed=case.seed)
    return case.draw(context, edit)


def run(case: Case) -> list[Finding]:
    """The same attack on the erased and the untouched model, and on an object that the model never knew."""
    z_0, began = case.latents(PICTURES), time.monotonic()
    erased = learnt(case, z_0, case.edit)
    spent = time.monotonic() - began
    floor = learnt(case, case.drawn_latents(case.unknown, PICTURES), None) if case.floor else None
    way = f"through a context learnt from {PICTURES} pictures in {spent:.0f} seconds"
    return [case.found("learnt context", way, erased, learnt(case, z_0, None), floor)]


ATTACK = Attack(
    "context",
    "Can a context be learnt from pictures that brings it back?",
    "arXiv 2308.01508",
    f"{ITERATIONS} x {BATCH} forward rows with gradient a column, then n x steps x 2 for the pictures",
    run,
    lambda case: case.learning(ITERATIONS, BATCH),
    quick=True,
)
