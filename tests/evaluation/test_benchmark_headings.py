"""The benchmarks' tables stand in words: no key as a heading, and every heading of a results page is explained."""

from __future__ import annotations

import ast
import importlib
import re
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Names of the tuples from which benchmarks/*.py print their tables.
PRINTED = ("COLUMNS", "COURSE", "NAMED", "KEY", "FIGURES", "LIKENESS", "PAIRED", "SAVED", "SIGNS", "DIFFERENCES")


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("common")


def is_code(words: str) -> bool:
    """Whether a heading is a key such as `forged_other1`, and no words."""
    return re.search(r"_|^[a-z]+\d$", words) is not None


def printed() -> set[str]:
    """Every key that stands in one of those tuples, in any benchmark."""
    found: set[str] = set()
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in PRINTED:
                found |= {c.value for c in ast.walk(node.value) if isinstance(c, ast.Constant) and c.value}
    return found


def headings_of(page: str) -> set[str]:
    """The words over the tables of a page of Markdown."""
    lines = page.splitlines()
    heads = [line for line, below in pairwise(lines) if re.fullmatch(r"\|(-+\|)+", below)]
    return {c for line in heads for c in (cell.strip() for cell in line.strip("|").split("|")) if c}


def test_no_benchmark_prints_a_key(common: ModuleType) -> None:
    keys = printed()
    assert {"esr1", "forged_other1", "peak_gb"} <= keys
    assert not [key for key in keys if is_code(common.heading(key))]
    assert is_code("forged_other1") and is_code("esr1") and not is_code("erased (ESR-1)")


def test_a_table_has_words_and_leaves_out_what_says_nothing(common: ModuleType) -> None:
    rows = [{"method": "sd", "retain_set": True, "esr1": 0.5, "learnt1": None, "n": 4}]
    shown = common.table(rows, ("method", "retain_set", "esr1", "learnt1", "n"))
    assert shown.splitlines()[0] == "| method | retain set | erased (ESR-1) | n |"
    assert shown.splitlines()[2] == "| untouched model | yes | 0.500 | 4 |"
    some = [*rows, {**rows[0], "learnt1": 0.25}]
    assert common.table(some, ("learnt1",)).splitlines()[2:] == ["| - |", "| 0.250 |"]


def test_figures_stand_in_two_tables_where_something_brings_the_concept_back(common: ModuleType) -> None:
    row = {"concept": "dog", "esr1": 1.0, "recovery1": 0.5, "seconds": 2.0}
    kept, back = common.figures([row], ("concept",), ("esr1", "recovery1", "seconds")).split("With the hidden prompt")
    assert "| dog | 1.000 |" in kept and "| dog | 0.500 | 2.000 |" in back
    one = common.figures([{**row, "recovery1": None}], ("concept",), ("esr1", "recovery1", "seconds"))
    assert one.splitlines()[2] == "| dog | 1.000 | 2.000 |"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "results").glob("*.md")), ids=lambda p: p.stem)
def test_every_column_of_a_results_page_is_explained(page: Path) -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| (.+?) \|", index.partition("## The columns of the tables")[2], re.M))
    explained = {name for cell in explained for name in cell.split(" / ")}
    shown = {re.sub(r" \((up|down)\)$", "", head) for head in headings_of(page.read_text(encoding="utf-8"))}
    assert shown and not [head for head in shown if is_code(head)]
    assert shown - explained == set(), "docs/README.md, 'The columns of the tables', does not explain these"
