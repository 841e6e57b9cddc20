"""A row of figures in words."""

from __future__ import annotations

import pytest

from eraser_core.evaluation.pocket.verdict import figures, verdict

GOOD = {"esr1": 1.0, "esr1_before": 0.05, "psr1": 0.9, "psr1_before": 0.95, "recovery1": None, "n_images": 12}
CASES = {
    "all is well": ({}, "erased, and the others are as before"),
    "one picture of a dozen": ({"esr1": 11 / 12, "psr1": 0.87}, "erased, and the others are as before"),
    "damage": ({"psr1": 0.33}, "erased; but 65 % of the others are damaged: try --method dp, or a longer retain set"),
    "two of a dozen others": ({"psr1": 10 / 12, "psr1_before": 1.0}, "erased; but 17 % of the others are damaged"),
    "still there": ({"esr1": 0.6}, "not erased: still seen in 40 % of its pictures; try more --iterations"),
    "still there, damage does not matter": ({"esr1": 0.6, "psr1": 0.0}, "not erased: still seen in 40 %"),
    "in part": ({"esr1": 0.8}, "erased in part: still seen in 20 % of its pictures, and the others are as before"),
    "never known": ({"esr1_before": 0.6}, "cannot be told: the untouched model shows it in only 40 % of its pictures"),
    "brought back": ({"recovery1": 0.8}, "erased, and the others are as before"),
    "not brought back": ({"recovery1": 0.2}, "as before; the hidden prompt brings it back in only 20 %"),
    "no others": ({"psr1": None, "psr1_before": None}, "erased; of the others none was looked at"),
    "others that nothing showed before": ({"psr1": 0.1, "psr1_before": 0.0}, "of the others none was looked at"),
    "others better than before": ({"psr1": 1.0, "psr1_before": 0.5}, "erased, and the others are as before"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_is_in_words(case: str) -> None:
    change, said = CASES[case]
    assert said in verdict({**GOOD, **change}, "uce" if "dp" in said else "kpop")
    if said.endswith("as before"):
        assert verdict({**GOOD, **change}) == said


def test_nobody_is_sent_to_the_method_that_was_used() -> None:
    harmed, seen = {**GOOD, "psr1": 0.3}, {**GOOD, "esr1": 0.5}
    assert "--method dp" in verdict(harmed, "kpop") and "--method dp" not in verdict(harmed, "dp")
    assert "--method kpop" in verdict(seen, "uce") and "--method kpop" not in verdict(seen, "kpop")


def test_three_figures_matter() -> None:
    assert figures({**GOOD, "recovery1": 0.75}) == (
        "still seen in 0 % of 12 pictures (untouched: 95 %), others right in 90 % (untouched: 95 %), "
        "brought back by the hidden prompt in 75 %"
    )
    assert "brought back" not in figures(GOOD)
