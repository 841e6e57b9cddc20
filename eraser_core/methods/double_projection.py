"""Double Projections (DP, arXiv 2604.10032): the closed form whose kept concepts are a hard constraint.

    W' = W + (1 + b) W (c* - c) x^T U2^T / |x|^2,    x = U2^T c

with U2 an orthonormal basis of the left null space of the kept concepts' tokens: for a kept c_p, U2^T c_p = 0 and
W' c_p = W c_p exactly; and W' c = W c* for an overshoot b of 0, the paper's. c* is the anchor's token or, for an empty anchor, c projected on the span of
the kept concepts. UCE is the soft case. With several tokens to erase, `directions` of them are taken: the principal
ones of X = U2^T C. With many kept concepts the null space empties, so the kept tokens' span is cut to `kept_energy`.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ..erasure import Entry
from ..errors import RequestError
from ..overshoot import overshoot_field
from ..request import Request
from ..text_readers import TextReader
from ..text_space import NEGLIGIBLE, ClosedFormSettings, TextSpace, entries, gather


class DoubleProjectionSettings(ClosedFormSettings):
    """Four directions a concept by default: without a retain set one erased nothing on the pocket model
    (docs/results/methods.md)."""

    directions: int = Field(4, ge=1, description="directions erased, for each concept")
    kept_energy: float = Field(0.9999, gt=0, le=1, description="share of the kept tokens' energy that is held exactly")
    overshoot: float = overshoot_field()


def span_and_null(p: Tensor, kept_energy: float) -> tuple[Tensor, Tensor]:
    """(U1, U2): orthonormal bases of the kept tokens' span, cut to its energy, and of what is orthogonal to it."""
    # All of u is needed where tokens are few; where they are many, all of v would be their number squared.
    u, s, _ = torch.linalg.svd(p, full_matrices=p.shape[1] < p.shape[0])
    share = (s**2).cumsum(0) / (s**2).sum() if len(s) else s
    kept = int((share < kept_energy).sum()) + 1 if len(s) else 0
    kept = min(kept, int((s > 1e-10 * s[:1].sum()).sum()))
    if kept == p.shape[0]:
        raise RequestError("the kept concepts leave no null space: retain fewer, or lower kept_energy")
    return u[:, :kept], u[:, kept:]


def solve(space: TextSpace, directions: int, kept_energy: float, b: float = 0.0) -> tuple[Tensor, Tensor]:
    """(L, R), each [d, r] float64, with E = L R^T: L = (1 + b) (C* - C) and R = U2 X (X^T X)^-1 on the principal directions."""
    u_1, u_2 = span_and_null(space.p, kept_energy)
    c_star = torch.where(space.anchored, space.g, u_1 @ (u_1.T @ space.c))
    x = u_2.T @ space.c
    _, s, vh = torch.linalg.svd(x, full_matrices=False)
    r = min(directions, int((s > NEGLIGIBLE * s[0]).sum()))
    v = vh[:r].T
    return (1 + b) * (c_star - space.c) @ v, u_2 @ (x @ v) / s[:r] ** 2


def edit(denoiser: TextReader, request: Request, settings: DoubleProjectionSettings) -> dict[str, Entry]:
    """The entries of a Double Projections edit."""
    space = gather(denoiser, request, "from_last", "all")
    r = settings.directions * len(request.targets)
    return entries(
        denoiser.weights("xattn-kv"), *solve(space, r, settings.kept_energy, settings.overshoot), settings.layers
    )
