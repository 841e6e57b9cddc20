"""What the pages in docs/ name is there: modules and names that a reader is told to import."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMPORT = re.compile(r"^from (eraser_core\S*) import (.+)$", re.M)
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if IMPORT.search(page.read_text(encoding="utf-8"))]


def missing(text: str) -> list[str]:
    """Names that a page imports from the engine and that are not there."""
    found = []
    for module, names in IMPORT.findall(text):
        try:
            known = importlib.import_module(module)
        except ModuleNotFoundError:
            found.append(module)
            continue
        found += [f"{module}.{name}" for name in names.split(", ") if not hasattr(known, name)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_imports_is_there(page: Path) -> None:
    assert missing(page.read_text(encoding="utf-8")) == []


def test_the_check_sees_what_is_not_there() -> None:
    wrong = "from eraser_core.evaluation.nudity import NudeNet\nfrom eraser_core import erase, no_such_name\n"
    assert missing(wrong) == ["eraser_core.evaluation.nudity", "eraser_core.no_such_name"]
