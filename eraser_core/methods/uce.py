"""UCE: Unified Concept Editing in Diffusion Models (Gandikota et al., arXiv 2308.14761).

    W' = (l W + s_e sum v* c^T + s_p sum W c_p c_p^T) (l I + s_e sum c c^T + s_p sum c_p c_p^T)^-1
    v* = W (g + b (g - c))

with c a token to erase, g the token it becomes, c_p a token to preserve, and b the overshoot of eraser_core/overshoot.py,
0 in the paper. Writing M for the last bracket, the first is W (M + (1 + b) s_e sum (g - c) c^T), hence W' = W (I + E) with
E = (1 + b) s_e (G - C) C^T M^-1. M holds text embeddings only: it is the same for every layer, one Cholesky factorisation
serves them all, and E has a rank of at most the erased tokens.

The authors' two versions take the sums over single tokens of single prompts. `moments` takes them over all tokens of all
prompts, counts each concept once, and adds a general vocabulary to what is preserved (text_moments.py): many concepts at
once, or one of two words, then leave the rest as it is (docs/results/many.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ..erasure import Entry
from ..overshoot import overshoot_field
from ..request import Request
from ..text_moments import KEPT, OVERSHOOT, RIDGE, joint_map
from ..text_readers import TextReader
from ..text_space import ClosedFormSettings, TextSpace, entries, gather

# The two versions of the authors' code; the defaults are those of moments.
_AUTHORS: Mapping[str, Mapping[str, float]] = {
    "current": {"l": 0.5, "s_p": 1.0, "overshoot": 0.0},
    "paper": {"l": 0.1, "s_p": 0.1, "overshoot": 0.0},
}


class UCESettings(ClosedFormSettings):
    """`preset` names a version; the other values override it.

    moments: ours, for one concept or many; s_p counts in times of all concepts together, l in times of all else.
    overshoot is 0.3 there. The authors': current: the last subject token, l 0.5, scales 1. paper: every token from the
    last subject token on is erased and all are preserved, l 0.1, s_p 0.1 (fits the numbers that the slides quote).
    """

    preset: Literal["moments", "current", "paper"] = Field(
        "moments", description="moments for one concept or many; current and paper are the authors' code"
    )
    l: float = Field(RIDGE, gt=0, description="weight of leaving W as it is")
    s_e: float = Field(1.0, gt=0, description="weight of erasing")
    s_p: float = Field(KEPT, ge=0, description="weight of preserving")
    overshoot: float = overshoot_field(OVERSHOOT)

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**_AUTHORS.get(values.get("preset", ""), {}), **values}


def solve(space: TextSpace, l: float, s_e: float, s_p: float, b: float = 0.0) -> tuple[Tensor, Tensor]:
    """(L, R), each [d, n] float64, with E = L R^T: L = (1 + b) (G - C) and R = s_e M^-1 C."""
    c, p = space.c, space.p
    m = l * torch.eye(c.shape[0], dtype=c.dtype, device=c.device) + s_e * c @ c.T + s_p * p @ p.T
    return (1 + b) * (space.g - c), s_e * torch.cholesky_solve(c, torch.linalg.cholesky(m))


def edit(denoiser: TextReader, request: Request, settings: UCESettings) -> dict[str, Entry]:
    """The entries of a UCE edit."""
    if settings.preset == "moments":
        weight = settings.s_p / settings.s_e
        found = joint_map(denoiser, request, weight, settings.l, settings.overshoot, general=True)
        return entries(denoiser.weights("xattn-kv"), *found.factors(), settings.layers)
    paper = settings.preset == "paper"
    space = gather(denoiser, request, "from_last" if paper else "last", "all" if paper else "last")
    solved = solve(space, settings.l, settings.s_e, settings.s_p, settings.overshoot)
    return entries(denoiser.weights("xattn-kv"), *solved, settings.layers)
