"""Trainable edits: what the gradient methods tune. Frozen weights stay as they are; an edit adds to them in a forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .denoiser import Denoiser, Edit, Tune
from .erasure import Dense, Entry, LowRank
from .errors import RequestError
from .text_layers import is_door


class TrainableEdit(Edit, Protocol):
    """An `Edit` with parameters, which starts as the identity and can be frozen into the entries of an erasure."""

    def parameters(self) -> list[Tensor]:
        """Leaf tensors, float32, in a fixed order."""

    def entries(self) -> dict[str, Entry]:
        """Its present state as entries of an erasure."""


Start = Mapping[str, LowRank]
START_TUNES = ("xattn-kv", "xattn")  # what a start may be of: it changes attn2's K and V


def _started(weight: Tensor, start: Start, key: str) -> Tensor:
    """The weight in float32 with the fixed change that the edit begins from."""
    return weight.float() + start[key].delta() if key in start else weight.float()


class DenseEdit:
    """W' = W + S + D with a full D for every tuned parameter; S is where the edit starts, 0 without a `start`."""

    def __init__(self, weights: Mapping[str, Tensor], start: Start | None = None):
        self._start = start or {}
        self._deltas = {
            k: torch.zeros(w.shape, device=w.device, dtype=torch.float32, requires_grad=True)
            for k, w in weights.items()
        }

    @property
    def keys(self) -> Sequence[str]:
        return list(self._deltas)

    def weight(self, key: str, weight: Tensor) -> Tensor:
        return (_started(weight, self._start, key) + self._deltas[key]).to(weight.dtype)

    def tokens(self, tokens: Tensor) -> Tensor:
        return tokens

    def parameters(self) -> list[Tensor]:
        return list(self._deltas.values())

    def entries(self) -> dict[str, Entry]:
        return {
            k: Dense(_started(d.detach(), self._start, k).clone(), bias=k.endswith(".bias"))
            for k, d in self._deltas.items()
        }


class LowRankEdit:
    """W' = W + S + up down for every tuned matrix (Hu et al., arXiv 2106.09685); biases and norms are left alone.

    up starts at zero and down at noise of variance 1 / in, so the edit starts as S, the identity without a `start`.
    S keeps a rank of its own in the file.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], rank: int, generator: torch.Generator, start: Start | None = None
    ):
        self._start = start or {}
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for key, w in weights.items():
            if w.dim() < 2:
                continue
            fan_in = w.shape[1:].numel()
            r = min(rank, w.shape[0], fan_in)
            down = torch.randn((r, *w.shape[1:]), generator=generator) * fan_in**-0.5
            up = torch.zeros((w.shape[0], r) + (1,) * (w.dim() - 2))
            self._pairs[key] = (up.to(w.device).requires_grad_(), down.to(w.device).requires_grad_())

    @property
    def keys(self) -> Sequence[str]:
        return list(self._pairs)

    def weight(self, key: str, weight: Tensor) -> Tensor:
        return (_started(weight, self._start, key) + LowRank(*self._pairs[key]).delta()).to(weight.dtype)

    def tokens(self, tokens: Tensor) -> Tensor:
        return tokens

    def parameters(self) -> list[Tensor]:
        return [x for pair in self._pairs.values() for x in pair]

    def entries(self) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for key, (up, down) in self._pairs.items():
            ups, downs = [up.detach()], [down.detach()]
            if key in self._start:
                ups, downs = [self._start[key].up, *ups], [self._start[key].down, *downs]
            found[key] = LowRank(torch.cat(ups, 1), torch.cat(downs))
        return found


class TextMapEdit:
    """One low-rank map of the text space for all layers: c' = c + (c B) A, with B [d, r] and A [r, d].

    K = c' W^T = c (I + B A) W^T, so it is W' = W + (W A^T) B^T in every layer that reads the context: an exact
    low-rank entry each. `basis` [d, m] confines B to its columns: the null space of the retained texts, where a kept
    token is moved by nothing. Where text enters by one matrix behind a norm, that matrix is changed instead of c.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], rank: int, generator: torch.Generator, basis: Tensor | None = None
    ):
        self._weights = weights
        self._doors = [key for key in weights if is_door(key)]
        some = next(iter(weights.values()))
        d = some.shape[1]
        self._basis = basis
        free = d if basis is None else basis.shape[1]
        r = min(rank, free)
        b = torch.randn((free, r), generator=generator) * d**-0.5
        self._b = b.to(some.device).requires_grad_()
        self._a = torch.zeros((r, d), device=some.device, requires_grad=True)

    @property
    def keys(self) -> Sequence[str]:
        return self._doors

    def _full_b(self) -> Tensor:
        return self._b if self._basis is None else self._basis @ self._b

    def weight(self, key: str, weight: Tensor) -> Tensor:
        return (weight.float() + weight.float() @ self._a.T @ self._full_b().T).to(weight.dtype)

    def tokens(self, tokens: Tensor) -> Tensor:
        if self._doors:
            return tokens
        mapped = tokens.float()
        return (mapped + (mapped @ self._full_b()) @ self._a).to(tokens.dtype)

    def parameters(self) -> list[Tensor]:
        return [self._b, self._a]

    def entries(self) -> dict[str, Entry]:
        a, b = self._a.detach(), self._full_b().detach()
        # A copy of b each: tensors that share memory are not written to files. A host may have moved its weights.
        return {k: LowRank(w.to(a.device).float() @ a.T, b.T.clone().contiguous()) for k, w in self._weights.items()}


def null_space(states: Tensor, kept_energy: float) -> Tensor:
    """An orthonormal basis [d, m] of the directions in which text states [..., d] hardly lie.

    Their principal directions are taken in order until `kept_energy` of their energy is reached; the basis spans
    the rest. RequestError if nothing is left.
    """
    device, tokens = states.device, states.flatten(0, -2).cpu().double()  # some accelerators have no float64
    # All of vh is needed where tokens are few; where they are many, all of u would be their number squared.
    _, s, vh = torch.linalg.svd(tokens, full_matrices=len(tokens) < tokens.shape[1])
    energy = torch.zeros(vh.shape[0], dtype=torch.float64)
    energy[: len(s)] = s**2
    kept = int((energy.cumsum(0) < kept_energy * energy.sum()).sum()) + 1
    if kept >= vh.shape[0]:
        raise RequestError("the retained texts leave no null space: retain fewer concepts, or set null_space to false")
    return vh[kept:].T.float().to(device)


def make_edit(
    denoiser: Denoiser,
    tune: Tune,
    rank: int,
    generator: torch.Generator,
    basis: Tensor | None = None,
    start: Start | None = None,
) -> TrainableEdit:
    """The edit that a settings class asks for: `rank` 0 is dense; `tune` "text" needs a rank.

    `start` is a fixed change of what reads the text that the edit begins from; RequestError where those are not tuned.
    """
    weights = denoiser.weights(tune)
    if start and tune not in START_TUNES:
        raise RequestError(
            f'start "closed form" changes attn2\'s K and V, tune {tune!r} does not: set start to "model"'
        )
    if tune == "text":
        if rank == 0:
            raise RequestError('tune "text" is a low-rank map: give it a rank, such as 8')
        return TextMapEdit(weights, rank, generator, basis)
    return LowRankEdit(weights, rank, generator, start) if rank else DenseEdit(weights, start)
