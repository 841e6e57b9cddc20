"""Differences between two models on the same pictures' seeds, each with a 95 % interval.

Pairing by seed removes what the seed alone decides, so small differences show that two separate intervals hide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import RequestError
from .objects import Rate

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """First minus second over n pairs, its 95 % interval, the p-value of "no difference", and how both were found."""

    value: float
    low: float
    high: float
    p: float
    n: int
    method: str


def rate_difference(first: Tensor, second: Tensor) -> Difference:
    """The difference of two success rates, [n] bool each, pair by pair.

    Interval: Newcombe's score interval for paired proportions (Statistics in Medicine 17, 2635-2650, 1998, method 10):
    Wilson's limits of each rate joined by their correlation phi, which is shrunk towards 0 when positive; unlike
    Wald's it keeps its coverage near 0 and 1, where erasing lives. p: McNemar's exact test on the discordant pairs.
    RequestError unless both have the same length, at least 1.
    """
    _check(first, second)
    one, two = first.bool(), second.bool()
    n = len(one)
    a, b = int((one & two).sum()), int((one & ~two).sum())
    c, d = int((~one & two).sum()), int((~one & ~two).sum())
    rates = Rate(a + b, n), Rate(a + c, n)
    (low1, high1), (low2, high2) = (rate.interval() for rate in rates)
    p1, p2 = (rate.value for rate in rates)
    phi = _phi(a, b, c, d)
    below = math.sqrt(max(0.0, (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2))
    above = math.sqrt(max(0.0, (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2))
    value = (b - c) / n
    return Difference(value, value - below, value + above, sign_p(b, c), n, "Newcombe 10 paired, McNemar exact")


def _phi(a: int, b: int, c: int, d: int) -> float:
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    cross = float(a * d - b * c)
    if margins == 0:
        return 0.0
    if cross > 0:
        cross = max(cross - (a + b + c + d) / 2, 0.0)
    return cross / math.sqrt(margins)


def mean_difference(first: Tensor, second: Tensor, seed: int = 0) -> Difference:
    """The mean difference of two scores, [n] each (LPIPS, CLIP), pair by pair.

    Interval: percentile bootstrap over the pairs, 10,000 resamples from a generator with this seed, so the same scores
    give the same interval (Efron, 1979). p: two-sided sign test. RequestError as in `rate_difference`.
    """
    _check(first, second)
    differences = (first.double() - second.double()).cpu()
    n, generator = len(differences), torch.Generator().manual_seed(seed)
    # In parts, so that long suites need little memory.
    means = torch.cat([_resampled(differences, 1000, generator) for _ in range(RESAMPLES // 1000)])
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    p = sign_p(int((differences > 0).sum()), int((differences < 0).sum()))
    return Difference(float(differences.mean()), low, high, p, n, "percentile bootstrap, sign test")


def _resampled(values: Tensor, times: int, generator: torch.Generator) -> Tensor:
    return values[torch.randint(len(values), (times, len(values)), generator=generator)].mean(1)


def sign_p(positive: int, negative: int) -> float:
    """The two-sided sign test: how often a fair coin is at least this one-sided; ties are left out beforehand."""
    n, least = positive + negative, min(positive, negative)
    # Integers throughout, so that thousands of pairs neither overflow nor round away.
    tail = sum(math.comb(n, i) for i in range(least + 1))
    return min(1.0, 2 * tail / 2**n)


@dataclass(frozen=True)
class SignTest:
    """How many differences are above and below zero, and the two-sided p-value."""

    positive: int
    negative: int
    ties: int
    p: float


def sign_test(differences: Sequence[float]) -> SignTest:
    """Are differences more often above zero than below (or the other way round)?"""
    positive, negative = sum(x > 0 for x in differences), sum(x < 0 for x in differences)
    return SignTest(positive, negative, len(differences) - positive - negative, sign_p(positive, negative))


def _check(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.dim() != 1 or len(first) == 0:
        raise RequestError(
            f"paired differences need two equally long lists of scores, got {list(first.shape)} and "
            f"{list(second.shape)}: score both models on the same questions"
        )
