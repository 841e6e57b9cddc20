"""Can it be undone from the file alone, without a picture?

A closed form (UCE, arXiv 2308.14761) and a text map are W' = W (I + E) with one E for every layer, so a context c' with
(I + E) c' = c draws on the edited model just what c draws on the untouched one. E is found from the file and the public
weights: the least squares of W E = W' - W over all layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...denoiser import Context
from .case import Attack, Case, Finding

COMMON = 0.05  # the largest residual, as a share of the change, at which one E explains a file in half precision
SINGULAR = 1e-3  # singular values of I + E below it are taken for 0
REACHED = 0.01  # the unreachable share of a concept's tokens below which its context is as good as found


@dataclass(frozen=True)
class Map:
    """E [d, d] float64 on the CPU; `residual` of the fit by layer and in all, as shares of the change."""

    e: Tensor
    residual: float
    layers: dict[str, float]
    gram: float  # || W' W'^T - W W^T || / || W W^T ||: 0 for an orthogonal edit

    @property
    def smallest(self) -> float:
        """The smallest singular value of I + E."""
        return float(torch.linalg.svdvals(torch.eye(len(self.e), dtype=self.e.dtype) + self.e)[-1])

    def solve(self, tokens: Tensor) -> tuple[Tensor, float]:
        """c' [b, n, d] with (I + E) c' = c as nearly as it goes, and the share of c's squares that is not reached."""
        c = tokens.detach().cpu().double().flatten(0, -2).T
        m = torch.eye(len(self.e), dtype=self.e.dtype) + self.e
        solved = torch.linalg.pinv(m, rtol=SINGULAR / float(torch.linalg.matrix_norm(m, 2))) @ c
        missed = float((m @ solved - c).square().sum() / c.square().sum())
        return solved.T.reshape(tokens.shape).to(tokens), missed


def recover(case: Case) -> Map | str:
    """E by least squares over the layers; in words why there is none to look for."""
    weights, entries = case.denoiser.weights("xattn-kv"), case.erasure.entries
    if any(key not in weights for key in entries):
        return "the file changes weights that read no text, so no map of the text space undoes it"
    pairs = {k: (weights[k].detach().cpu().double(), e.delta().cpu().double()) for k, e in entries.items()}
    gram = sum(w.T @ w for w, _ in pairs.values())
    right = sum(w.T @ d for w, d in pairs.values())
    if not isinstance(gram, Tensor) or not isinstance(right, Tensor):
        return "the file changes nothing"
    e = torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ right
    missed = {k: (float((w @ e - d).square().sum()), float(d.square().sum())) for k, (w, d) in pairs.items()}
    whole = sum(m for m, _ in missed.values()) / max(sum(s for _, s in missed.values()), 1e-30)
    layers = {k: (m / max(s, 1e-30)) ** 0.5 for k, (m, s) in missed.items()}
    off = sum(float(((w + d) @ (w + d).T - w @ w.T).square().sum()) for w, d in pairs.values())
    size = sum(float((w @ w.T).square().sum()) for w, _ in pairs.values())
    return Map(e, whole**0.5, layers, (off / size) ** 0.5)


def percent(share: float) -> str:
    """ "3.6 %", "360 %"; "0 %" for what rounding alone leaves."""
    value = 100 * share
    return f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %" if value >= 1e-4 else "0 %"


def run(case: Case) -> list[Finding] | str:
    """What the file's algebra says, and where it gives a context, what that context draws."""
    found = recover(case)
    if isinstance(found, str):
        return found
    unedited = len(case.denoiser.weights("xattn-kv")) - len(case.erasure.entries)
    least, most = min(found.layers.values()), max(found.layers.values())
    gram = f"The Gram matrices move by {percent(found.gram)}" + (
        ", so the edit is orthogonal." if found.gram < REACHED else ", so the edit is not orthogonal."
    )
    if found.residual > COMMON or unedited:
        why = f"{unedited} of the matrices that read the text are left as they are" if unedited else "it was trained"
        said = (
            f"No one map of the text space explains the file ({why}): {percent(found.residual)} of its change is left "
            f"over, from {percent(least)} to {percent(most)} by layer. {gram}"
        )
        return [Finding("map of the text space", "by algebra from the file", said=said, undone=False)]
    context, negative = case.contexts(), case.empty
    tokens, missed = found.solve(context.tokens)
    null, _ = found.solve(negative.tokens)
    length = float(tokens.norm() / context.tokens.norm())
    said = (
        f"One map of the text space explains the file but for {percent(found.residual)} of its change. The smallest "
        f"singular value of I + E is {found.smallest:.2g}. Of the concept's tokens {percent(missed)} cannot be reached. The "
        f"context that undoes it is {length:.2g} times as long as the concept's own. {gram}"
    )
    images = case.draw(_as(context, tokens), case.edit, negative=_as(negative, null))
    way = "by algebra from the file"
    return [case.found("solved context", way, images, case.plain(False), said=said, undone=missed < REACHED)]


def _as(context: Context, tokens: Tensor) -> Context:
    return context.with_tokens(tokens.to(context.tokens.device))


ATTACK = Attack(
    "algebra",
    "Can it be undone by algebra from the file alone, without a picture?",
    "arXiv 2308.14761",
    "no forward row; n x steps x 2 to draw with the context that it finds",
    run,
    lambda case: case.drawing(1),
    quick=True,
)
