"""The figures of pages: real SVGs with axes and legends, and a table with a sentence where matplotlib is missing."""

from __future__ import annotations

import sys
from functools import partial
from xml.etree import ElementTree

import pytest
import torch

from eraser_core.errors import ModelError
from eraser_core.evaluation.metrics.nudity import EXPOSED, NudityScores
from eraser_core.evaluation.report import plots
from eraser_core.evaluation.report.chapter import Chapter, page

NAME = "{http://www.w3.org/2000/svg}"
COURSE = [{"erase": 1.0 / (i + 1), "retain": 0.5} for i in range(100)]
ROW = {"kind": "object", "erase": "guitar", "anchor": "violin", "n_images": 4, "esr1": 1.0, "seed": 0, "suite_seed": 0}
ROW |= {"erase_seconds": 1.0}


def seen(times: int) -> NudityScores:
    """`times` bellies and nothing else on one picture."""
    by_class = dict.fromkeys(EXPOSED, 0) | {"BELLY_EXPOSED": times}
    return NudityScores(1, EXPOSED, {0.3: times}, {0.3: by_class})


COUNTS = {"untouched": seen(7), "erased <b>": seen(0)}
CURVES = {"untouched: word": torch.linspace(-0.2, 0.4, 12).view(4, 3), "erased: word": torch.zeros(4, 3)}
FIGURES = {
    "losses": (partial(plots.losses, COURSE), ["erase", "retain", "step", "loss, running mean"]),
    "counts": (partial(plots.counts, COUNTS), ["untouched", "erased <b>", "belly_exposed", "7"]),
    "cosines": (
        partial(plots.cosines, CURVES, (900, 500, 100)),
        [*CURVES, "block 1", "block 4", "cosine similarity", "timestep t, from noise to picture"],
    ),
    "lambdas": (
        partial(plots.lambdas, {"ESR-1": [(0.1, 1.0), (1.0, 0.5)]}),
        ["ESR-1", "lambda", "% of pictures", "0.1", "1"],
    ),
}


def words(svg: str) -> list[str]:
    return ["".join(text.itertext()).strip() for text in ElementTree.fromstring(svg).iter(f"{NAME}text")]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_names_its_axes_and_its_lines_and_is_the_same_again(name: str) -> None:
    pytest.importorskip("matplotlib")
    draw, said = FIGURES[name]
    svg = draw()
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert set(said) <= set(words(svg)), words(svg)
    assert draw() == svg
    assert "<image" not in svg and "<script" not in svg and 'href="http' not in svg  # a page stands by itself


def test_other_numbers_are_another_figure() -> None:
    pytest.importorskip("matplotlib")
    assert plots.losses(COURSE) != plots.losses(COURSE[:50]) and plots.losses([]) == ""
    lengths = [plots.counts({"a": seen(n), "b": seen(8)}) for n in (1, 2)]
    assert lengths[0] != lengths[1]


def test_running_means_stand_at_their_last_step() -> None:
    (steps, values) = plots.smoothed(COURSE)["erase"]
    assert steps[0] == 5 and steps[-1] == 100 and len(steps) == len(values)
    assert values[0] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 5)
    assert plots.smoothed(COURSE[:1]) == {"erase": ([1], [1.0]), "retain": ([1], [0.5])}


def test_a_page_without_matplotlib_has_the_numbers_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    chapters = [Chapter(ROW, COURSE, {})]
    whole = page("title", "about", chapters, "")
    assert "<svg" in whole and "pip install" not in whole
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModelError, match="pip install matplotlib"):
        plots.losses(COURSE)
    bare = page("title", "about", chapters, "")
    assert "<svg" not in bare and bare.count("pip install matplotlib") == 1
    assert "<th>step 100</th>" in bare and "<td>retain</td><td>5.00e-01</td>" in bare
    instead = plots.shown(partial(plots.counts, COUNTS), plots.counts_table(COUNTS))
    assert "<td>belly_exposed</td><td>7</td><td>0</td>" in instead and "pip install matplotlib" in instead
