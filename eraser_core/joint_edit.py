"""Edits of what reads the text, as they come from a training or from files, confined to the texts that they are for.

    dW' = dW C (C + w K + l I)^-1,        C the second moment of the concepts' text states, K of what is kept

is the least-squares answer to "as dW on the concepts' texts, nothing on the rest". many/combine.py has it for several dW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .denoiser import Denoiser
from .erasure import Dense, Entry, LowRank
from .hidden_prompt import HiddenPrompt
from .request import Request
from .text_moments import RIDGE, kept_moment, normal_matrix, summed_moments
from .text_readers import TextReader, places

NEAR = 1e-7  # weight of staying near p, in times of the mean of what reads it
MISSED = 1e-4  # of the change's sum of squares, which a rank that is not given leaves out at most


def confined(
    denoiser: Denoiser, request: Request, entries: Mapping[str, Entry], prompts: Sequence[HiddenPrompt], weight: float
) -> tuple[dict[str, Entry], tuple[HiddenPrompt, ...]]:
    """dW' of every layer, and the hidden prompts fitted to it as `refitted` says.

    `weight` is that of what is kept, in times of the concepts: the request's retained words and anchors, and the general
    vocabulary. Changes of what does not read the text stay as they are.
    """
    found = dict(entries)
    for place in places(denoiser):
        here = {key: entries[key] for key in place.weights("xattn-kv") if key in entries}
        if here:
            found |= _at(place, request, here, weight)
    weights = denoiser.weights("xattn-kv")
    return found, tuple(refitted(weights, found, entries, p) for p in prompts)


def _at(place: TextReader, request: Request, entries: Mapping[str, Entry], weight: float) -> dict[str, Entry]:
    c = summed_moments(place, request.targets).c
    normal = normal_matrix(c, kept_moment(place, request, general=True), weight, RIDGE)
    projection = torch.linalg.solve(normal, c).T.float()  # C (C + w K + l I)^-1, both symmetric
    found: dict[str, Entry] = {}
    whole: dict[str, Tensor] = {}
    for key, entry in entries.items():
        if isinstance(entry, LowRank):  # it keeps the rank that was asked for
            down = entry.down.float()
            found[key] = LowRank(entry.up, down @ projection.to(down.device), entry.alpha)
        else:
            delta = entry.delta().float()
            whole[key] = delta @ projection.to(delta.device)
    return found | (low_rank(whole, c, 0)[0] if whole else {})


def low_rank(solved: Mapping[str, Tensor], c: Tensor, rank: int) -> tuple[dict[str, Entry], float]:
    """All layers' changes by the directions of the text space that most of them read, and what those miss.

    One decomposition serves all layers: sum_l dW_l^T dW_l. The second value is the share of the change on the concepts'
    prompts (c [d, d]) that is missed. A layer whose change takes fewer numbers as it is stays as it is.
    """
    device, d = next((delta.device, delta.shape[1]) for delta in solved.values())
    grams: dict[int, Tensor] = {}  # by a layer's rows: they say whether it is cut
    for delta in solved.values():
        gram = grams.setdefault(len(delta), torch.zeros(d, d, device=device))
        gram.addmm_(delta.T, delta)
    of_rows = {rows: gram.cpu().double() for rows, gram in grams.items()}
    gram_of_all = torch.stack(list(of_rows.values())).sum(0)
    s, v = torch.linalg.eigh(gram_of_all)
    s, v = s.flip(0).clamp(min=0), v.flip(1)
    share = s.cumsum(0) / s.sum().clamp(min=1e-300)
    r = min(rank or int((share < 1 - MISSED).sum()) + 1, len(s))
    cut = {rows for rows in of_rows if rank or r * (rows + d) < rows * d}
    # Half precision holds numbers of one size best: both factors of a direction get the same.
    even = (s[:r] / len(solved)).clamp(min=1e-30).pow(0.25)
    down, up = (v[:, :r] * even).T.float().to(device).contiguous(), (v[:, :r] / even).float().to(device)
    # A copy of `down` each: tensors that share memory are not written to files.
    entries: dict[str, Entry] = {
        key: LowRank(delta @ up, down.clone()) if len(delta) in cut else Dense(delta) for key, delta in solved.items()
    }
    # In the concepts' own metric: sum_l || dW_l others others^T C^(1/2) ||^2 over sum_l || dW_l C^(1/2) ||^2
    others = v[:, r:]
    rest = sum((others.T @ of_rows[rows] @ others * (others.T @ c @ others)).sum() for rows in cut)
    whole = float((gram_of_all * c).sum())
    return entries, (max(float(rest), 0.0) / whole) ** 0.5 if whole > 0 else 0.0


def refitted(
    weights: Mapping[str, Tensor], joint: Mapping[str, Entry], own: Mapping[str, Entry], p: HiddenPrompt
) -> HiddenPrompt:
    """p' [k, d]: what a network with the change `joint` reads as one with the change `own` reads p, by least squares.

    It stays near p where the matrices see nothing: a transformer may have one, which is wider than high. Matrices of another
    width are left out: they read a pooled text, or what a projection makes of the tokens. Where all are, p stays as it is.
    """
    d = p.tokens.shape[1]
    reading = [key for key, w in weights.items() if w.shape[1] == d and (key in joint or key in own)]
    if not reading:
        return p
    normal, target = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, len(p.tokens), dtype=torch.float64)
    tokens = p.tokens.cpu().double().T
    for key in reading:
        w = weights[key].cpu().double()
        new = w + joint[key].delta().cpu().double() if key in joint else w
        old = w + own[key].delta().cpu().double() if key in own else w
        normal += new.T @ new
        target += new.T @ (old @ tokens)
    ridge = NEAR * normal.trace() / d * torch.eye(d, dtype=torch.float64)
    moved = torch.linalg.solve(normal + ridge, target - normal @ tokens)
    return replace(p, tokens=(tokens + moved).T.float())
