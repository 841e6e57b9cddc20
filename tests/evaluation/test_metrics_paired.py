"""Paired differences: against published and hand-worked numbers, and on controls."""

from __future__ import annotations

import math

import pytest
import torch

from eraser_core.errors import RequestError
from eraser_core.evaluation.metrics.paired import mean_difference, rate_difference, sign_p, sign_test


def pairs(both: int, first: int, second: int, neither: int):
    rows = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    table = torch.tensor(rows, dtype=torch.bool)
    return table[:, 0], table[:, 1]


def test_newcombes_interval_on_a_published_table():
    # Airway hyper-responsiveness before and after stem cell transplantation (Bentur et al.), the standard example of
    # paired intervals: Newcombe's is (-0.507, -0.026) in Fagerland, Lydersen and Laake (Stat Med 33, 2850, 2014).
    found = rate_difference(*pairs(1, 1, 7, 12))
    assert found.value == pytest.approx(-6 / 21)
    assert (round(found.low, 3), round(found.high, 3)) == (-0.507, -0.026)
    assert found.p == pytest.approx(2 * (1 + 8) / 2**8)  # McNemar exact: 1 against 7


def test_newcombes_interval_by_hand_where_the_correlation_counts():
    # 30 both, 10 first, 2 second, 18 neither: phi = (540 - 20 - 30) / sqrt(40 * 20 * 32 * 28) by the definition.
    found = rate_difference(*pairs(30, 10, 2, 18))
    phi = 490 / math.sqrt(40 * 20 * 32 * 28)

    def wilson(k, n=60, z=1.959964):
        middle, half = k + z * z / 2, z * math.sqrt(k * (n - k) / n + z * z / 4)
        return (middle - half) / (n + z * z), (middle + half) / (n + z * z)

    (l1, u1), (l2, u2) = wilson(40), wilson(32)
    p1, p2 = 40 / 60, 32 / 60
    low = 8 / 60 - math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    high = 8 / 60 + math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    assert (found.low, found.high) == pytest.approx((low, high))
    # Control: the same rates without the pairing give a wider interval.
    unpaired = rate_difference(*pairs(21, 19, 11, 9))
    assert unpaired.value == pytest.approx(found.value)
    assert unpaired.high - unpaired.low > 1.3 * (found.high - found.low)


def test_nothing_changed_and_everything_changed():
    same = rate_difference(*pairs(20, 0, 0, 20))
    assert same.value == 0 and same.low < 0 < same.high and same.p == 1
    gone = rate_difference(*pairs(0, 40, 0, 0))
    assert gone.value == 1 and gone.low > 0.8 and gone.high == pytest.approx(1) and gone.p < 1e-10
    back = rate_difference(*pairs(0, 0, 40, 0))
    assert (back.low, back.high) == pytest.approx((-gone.high, -gone.low))


def test_the_interval_covers_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        shared = torch.rand(60, generator=generator)
        first = (shared < 0.9) & (torch.rand(60, generator=generator) < 0.98)
        second = (shared < 0.9) & (torch.rand(60, generator=generator) < 0.88)
        found = rate_difference(first, second)
        hits += found.low <= 0.9 * (0.98 - 0.88) <= found.high
    assert 0.93 <= hits / 400 <= 1


def test_mean_differences_by_hand():
    # Two pairs with differences 0 and 1: a resample's mean is 0, 1/2 or 1 (1 in 4, 1 in 2, 1 in 4).
    found = mean_difference(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0]))
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)
    constant = mean_difference(torch.arange(9.0) + 2, torch.arange(9.0))
    assert (constant.value, constant.low, constant.high) == (2.0, 2.0, 2.0)
    assert constant.p == 2 / 2**9
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(200, generator=generator) + 0.3, torch.randn(200, generator=generator)
    wide = mean_difference(first, second)
    half = 1.96 * float((first - second).std()) / math.sqrt(200)
    assert (wide.low, wide.high) == pytest.approx((wide.value - half, wide.value + half), abs=0.02)
    assert mean_difference(first, second) == wide  # the same scores, the same interval


def test_the_sign_test_by_hand():
    assert sign_p(5, 0) == 2 / 32
    assert sign_p(4, 1) == 2 * (1 + 5) / 32
    assert sign_p(0, 0) == 1 and sign_p(3, 3) == 1
    assert sign_p(3000, 1000) < 1e-200
    found = sign_test([0.1, 0.2, -0.3, 0.0, 0.4])
    assert (found.positive, found.negative, found.ties) == (3, 1, 1)
    assert found.p == sign_p(3, 1)


def test_unequal_lists_are_refused():
    for first, second in (([1, 0], [1]), ([], []), ([[1]], [[1]])):
        with pytest.raises(RequestError, match="same questions"):
            rate_difference(torch.tensor(first), torch.tensor(second))
