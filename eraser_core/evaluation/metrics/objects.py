"""Erasing and preservation success rates (slides, "Erasing Object-Related Concepts").

ESR-k is the share of pictures of an erased class that a classifier does NOT name among its k first guesses; PSR-k the
share of pictures of a kept class that it does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


def ranks(logits: Tensor, answers: Tensor) -> Tensor:
    """[b] how many classes are ranked before the answer: 0 is the first guess. Ties count against the answer."""
    own = logits.gather(1, answers[:, None])
    return (logits >= own).sum(1) - 1


@dataclass(frozen=True)
class Rate:
    """A share k of n, with Wilson's 95 % interval."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n

    def interval(self) -> tuple[float, float]:
        z, n, p = 1.959964, self.n, self.hits / self.n
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def psr(rank: Tensor, k: int = 1) -> Rate:
    """The share whose class is among the first k guesses."""
    return Rate(int((rank < k).sum()), len(rank))


def esr(rank: Tensor, k: int = 1) -> Rate:
    """The share whose class is not among the first k guesses."""
    return Rate(int((rank >= k).sum()), len(rank))
