"""How far erasures move what the model reads of other words: told from the files and the text encoder, nothing is drawn.

    movement(word)^2 = sum over layers || dW s ||^2 / sum over layers || W s ||^2,    s the word's tokens behind the start

Many words cost as little as one: sum_l dW_l^T dW_l and sum_l W_l^T W_l are [d, d], whatever the number of layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..erasure import Erasure
from ..pocket.concepts import FAMILIES, load_concepts
from ..request import Request
from ..retain_lists import KINDS, words_of
from ..text_moments import BATCH
from ..text_readers import places

# Where pictures of other words began to break in a prototype on the pocket model; benchmarks/harm.py measures it.
HARMED = 0.6
WORST = 10


@dataclass(frozen=True)
class Harm:
    """The movement of each word, the largest first, as a share of what the model reads of it."""

    movements: tuple[tuple[str, float], ...]

    @property
    def harmed(self) -> tuple[str, ...]:
        """The words that are moved further than a picture bears."""
        return tuple(word for word, moved in self.movements if moved > HARMED)

    def text(self) -> str:
        """One line: how many words are harmed and which most; "" where none is."""
        if not self.harmed:
            return ""
        worst = ", ".join(f"{word} {moved:.2f}" for word, moved in self.movements[:WORST] if moved > HARMED)
        return (
            f"{len(self.harmed)} of {len(self.movements)} other words are moved so far that their pictures likely break: "
            f"{worst} (above {HARMED:g} is too far)"
        )


def harm(
    denoiser: Denoiser, erasures: Sequence[Erasure], words: Sequence[str], strengths: Sequence[float] | None = None
) -> Harm:
    """What these erasures together do to each of the words, which none of them erases. `strengths` are 1 each unless given."""
    moved, read = torch.zeros(2, len(words), dtype=torch.float64)
    for place in places(denoiser):
        grams = _grams(place.weights("xattn-kv"), erasures, strengths or [1.0] * len(erasures))
        for first in range(0, len(words), BATCH):
            rows = slice(first, first + BATCH)
            states = place.as_read(place.encode(words[rows]).tokens).cpu().double()
            states = states[:, 1:] if states.shape[1] > 1 else states  # a vector for the whole text has no start
            for total, gram in zip((moved, read), grams, strict=True):
                total[rows] += torch.einsum("bnd,de,bne->b", states, gram, states)
    found = list(zip(words, (moved / read).clamp(min=0).sqrt().tolist(), strict=True))
    return Harm(tuple(sorted(found, key=lambda one: -one[1])))


def words_to_watch(family: str, erasures: Sequence[Erasure]) -> tuple[str, ...]:
    """What the files retain and none of them erases; where that is nothing, what the pocket model draws, or the shipped lists."""
    asked = [
        Request.from_facts(json.loads(e.facts["erasure.request"])) for e in erasures if "erasure.request" in e.facts
    ]
    retained = dict.fromkeys(word for request in asked for word in request.retain)
    words = tuple(retained) or (
        tuple(c.phrase for c in load_concepts().drawn)
        if family in FAMILIES
        else tuple(word for kind in KINDS for word in words_of(kind))
    )
    return tuple(word for word in words if not any(request.erases(word) for request in asked))


def stacked(denoiser: Denoiser, erasures: Sequence[Erasure], strengths: Sequence[float]) -> str:
    """The warning before several files are used together; "" where they harm nothing, or there is one."""
    words = words_to_watch(denoiser.family, erasures)
    if len(erasures) < 2 or not words:
        return ""
    found = harm(denoiser, erasures, words, strengths).text()
    return (
        f"{len(erasures)} erasures together: {found}. `combine` makes one file of them that does not" if found else ""
    )


def _grams(
    weights: Mapping[str, Tensor], erasures: Sequence[Erasure], strengths: Sequence[float]
) -> tuple[Tensor, Tensor]:
    d = next(iter(weights.values())).shape[1]
    moved, read = (torch.zeros(d, d, dtype=torch.float64) for _ in range(2))
    for key, weight in weights.items():
        w = weight.cpu().double()
        read += w.T @ w
        deltas = [
            strength * one.entries[key].delta().cpu().double()
            for one, strength in zip(erasures, strengths, strict=True)
            if key in one.entries
        ]
        if deltas:
            total = torch.stack(deltas).sum(0)
            moved += total.T @ total
    return moved, read
