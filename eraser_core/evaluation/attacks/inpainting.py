"""Does it come back when half of a picture of it is given?

RePaint (arXiv 2201.09865) without its resampling: at each timestep the left half of z_t is the known picture's, noised,
and the network draws the right half.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...denoiser import Context, Edit
from ...sampling import guided
from .case import SHOWN, Attack, Case, Finding


@torch.no_grad()
def inpainted(case: Case, z_0: Tensor, context: Context, edit: Edit | None) -> Tensor:
    """Pictures [n, 3, h, w] whose left half is that of z_0 [n, c, h, w]."""
    denoiser, negative = case.denoiser, case.empty.expand(case.n)
    eps = case.noise().to(z_0)
    known = torch.zeros_like(z_0)
    known[..., : z_0.shape[-1] // 2] = 1
    z, grid = eps, denoiser.schedule.grid(case.examiner.steps)
    for k, now in enumerate(grid.tolist()):
        t = torch.full((case.n,), now, device=z.device)
        a, s = denoiser.schedule.signal_and_noise(t)
        z = known * (a * z_0 + s * eps) + (1 - known) * z
        clean, noise = denoiser.schedule.split(
            guided(denoiser, z, t, context, negative, case.examiner.guidance, edit), z, t
        )
        if k + 1 < len(grid):
            a, s = denoiser.schedule.signal_and_noise(torch.full_like(t, int(grid[k + 1])))
            clean = a * clean + s * noise
        z = clean
    return case.examiner.decoded(known * z_0 + (1 - known) * z)


def run(case: Case) -> list[Finding]:
    """By both models, and of an object that the model never knew.

    The judge may know a concept by half of it: what the half shows beside an anchor, drawn by the untouched model, counts as
    given.
    """
    z_0, context, floor = case.latents(case.n), case.contexts(), None
    if case.floor:
        floor = inpainted(case, case.drawn_latents(case.unknown, case.n), case.contexts(f"a {case.unknown}"), None)
    erased, untouched = (inpainted(case, z_0, context, edit) for edit in (case.edit, None))
    instead = case.contexts(case.target.anchor) if case.target.anchor else case.empty.expand(case.n)
    beside = inpainted(case, z_0, instead, None)
    way = "when the left half of a picture of it is given"
    found = replace(case.found("left half given", way, erased, untouched, floor), given=case.seen(beside))
    return [replace(found, shown={**found.shown, "untouched, anchor beside it": beside[:SHOWN]})]


ATTACK = Attack(
    "inpainting",
    "Does it come back when half of a picture of it is given?",
    "arXiv 2201.09865",
    "n x steps x 2 forward rows a column",
    run,
    lambda case: case.drawing(4 if case.floor else 3),
)
