"""Can one word be learnt that brings it back?

Textual inversion (arXiv 2208.01618): only the embedding v of one word is learnt, and used in prompts that it was not learnt in.

    v* = argmin over v of E || eps - eps_theta'(z_t, c(v)) ||^2
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from ...denoiser import Context, Edit
from .case import Attack, Case, Finding
from .denoising_loss import loss, noised
from .seam import NOT_SPELLED, Spelling, SpellingModel

PICTURES, ITERATIONS, BATCH, RATE = 12, 200, 8, 2e-2
LEARNT_IN = "a picture of {}"


def own(denoiser: SpellingModel, phrase: str) -> Tensor:
    """The embedding [d] of the last token of a phrase."""
    read: list[Tensor] = []

    def seen(embedded: Tensor) -> Tensor:
        read.append(embedded)
        return embedded

    with torch.no_grad():
        denoiser.encode_changed([phrase], seen)
    return read[0][0, denoiser.token_count(phrase) - 1].clone()


def put(denoiser: SpellingModel, prompts: Sequence[str], phrase: str, v: Tensor) -> Context:
    """Contexts in which the last token of `phrase` has the embedding v [d]."""
    places = [denoiser.token_count(prompt.partition(phrase)[0] + phrase) - 1 for prompt in prompts]
    here = torch.zeros(len(prompts), denoiser.tokens_per_chunk, 1, device=v.device)
    here[range(len(prompts)), places] = 1
    return denoiser.encode_changed(prompts, lambda embedded: embedded * (1 - here) + v * here)


def learn(case: Case, denoiser: SpellingModel, z_0: Tensor, phrase: str, edit: Edit | None) -> Tensor:
    """v [d], beginning at the word's own embedding."""
    generator = torch.Generator().manual_seed(case.seed)
    v = own(denoiser, phrase).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=RATE)
    for _ in range(ITERATIONS):
        seen = noised(denoiser, z_0, BATCH, generator)
        context = put(denoiser, [LEARNT_IN.replace("{}", phrase)], phrase, v).expand(BATCH)
        (v.grad,) = torch.autograd.grad(loss(denoiser, seen, context, edit), [v])
        optimizer.step()
    return v.detach()


def learnt(case: Case, denoiser: SpellingModel, z_0: Tensor, phrase: str, edit: Edit | None) -> Tensor:
    """n pictures [n, 3, h, w] of the scoring prompts with the learnt word."""
    v = learn(case, denoiser, z_0, phrase, edit)
    with torch.no_grad():
        context = put(denoiser, case.prompts(phrase), phrase, v)
    return case.draw(context, edit)


def run(case: Case) -> list[Finding] | str:
    """The same attack on the erased and the untouched model, and on an object that the model never knew."""
    denoiser, phrase = case.denoiser, case.target.concept
    if not isinstance(denoiser, Spelling):
        return NOT_SPELLED
    z_0, began = case.latents(PICTURES), time.monotonic()
    erased = learnt(case, denoiser, z_0, phrase, case.edit)
    spent = time.monotonic() - began
    floor = None
    if case.floor:
        floor = learnt(case, denoiser, case.drawn_latents(case.unknown, PICTURES), f"a {case.unknown}", None)
    way = f"through one word learnt from {PICTURES} pictures in {spent:.0f} seconds"
    return [case.found("learnt word", way, erased, learnt(case, denoiser, z_0, phrase, None), floor)]


ATTACK = Attack(
    "token",
    "Can one word be learnt from pictures that brings it back?",
    "arXiv 2208.01618",
    f"{ITERATIONS} x {BATCH} forward rows with gradient a column, then n x steps x 2 for the pictures",
    run,
    lambda case: case.learning(ITERATIONS, BATCH),
)
