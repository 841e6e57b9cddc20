"""What the package brings to whoever installs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("nudenet", "onnxruntime", "opencv", "matplotlib")


def required(path: Path) -> set[str]:
    """The names in a requirements file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {re.split(r"[<>=\[ ]", line)[0].lower() for line in lines if line and not line.startswith("-")}


def test_users_get_no_build_of_onnxruntime_or_opencv_beside_their_own() -> None:
    assert not required(ROOT / "requirements.txt") & set(HEAVY)
    assert "nudenet" in required(ROOT / "requirements-test-tools.txt")


def test_the_engine_asks_for_the_heavy_ones_in_extras_alone() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not [line for line in project["dependencies"] if line.startswith(HEAVY)]
    for extra in ("nudity", "test"):
        assert [line for line in project["optional-dependencies"][extra] if line.startswith("nudenet")], extra
