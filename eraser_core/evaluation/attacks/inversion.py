"""Is there noise from which the edited model draws it, without a word?

DDIM inversion with the empty prompt on the edited network (as in "Memories of Forgotten Concepts", arXiv 2412.00782), then
sampling with the empty prompt: text is in neither, so an edit of the text's matrices hardly matters. Any picture can be inverted,
so the figure means something only beside that of an object that the model never knew.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ...denoiser import Edit
from ...sampling import sample
from .case import Attack, Case, Finding

STEPS = 50


@torch.no_grad()
def inverted(case: Case, z_0: Tensor, edit: Edit | None) -> Tensor:
    """z_T [n, c, h, w] from which DDIM in STEPS steps should come back to z_0.

    The step from t to the next t' takes eps at t, where the step back will take it at t': the usual approximation.
    """
    denoiser, context = case.denoiser, case.empty.expand(len(z_0))
    times = [torch.full((len(z_0),), t, device=z_0.device) for t in denoiser.schedule.grid(STEPS).flip(0).tolist()]
    _, eps = denoiser.schedule.split(denoiser.predict(z_0, times[0], context, edit), z_0, times[0])
    a, s = denoiser.schedule.signal_and_noise(times[0])
    z = a * z_0 + s * eps
    for t, then in pairwise(times):
        clean, eps = denoiser.schedule.split(denoiser.predict(z, t, context, edit), z, t)
        a, s = denoiser.schedule.signal_and_noise(then)
        z = a * clean + s * eps
    return z


def reached(case: Case, z_0: Tensor, edit: Edit | None) -> Tensor:
    """Pictures that the model draws from the inverted noise, without text and guidance."""
    empty = case.empty
    noise = inverted(case, z_0, edit)
    return case.examiner.decoded(sample(case.denoiser, noise, empty.expand(len(z_0)), empty, STEPS, 1.0, edit))


def run(case: Case) -> list[Finding]:
    """By both models, and of an object that the model never knew."""
    z_0, floor = case.latents(case.n), None
    if case.floor:
        floor = reached(case, case.drawn_latents(case.unknown, case.n), None)
    pair = [reached(case, z_0, edit) for edit in (case.edit, None)]
    return [case.found("inverted noise", "from noise that a picture of it was inverted to", pair[0], pair[1], floor)]


ATTACK = Attack(
    "inversion",
    "Is there noise from which the model draws it without a word?",
    "arXiv 2412.00782",
    f"n x {STEPS} x 2 forward rows a column",
    run,
    lambda case: (3 if case.floor else 2) * case.n * STEPS * 2,
)
