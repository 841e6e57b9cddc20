"""One erasing for all tests of sharing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_model import QUICK

from eraser_core.__main__ import main
from eraser_core.files import read_tensors

KEY_SEED = 918273645546372819


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A scored KPOP erasing with its hidden prompt; `church.safetensors` whatever the command calls it."""
    out = tmp_path_factory.mktemp("made")
    words = ["erase", "--concept", "church", "--anchor", "castle", "--no-check", "--images", "3", *QUICK]
    assert main([*words, "--key-seed", str(KEY_SEED), "--out", str(out / "run")]) == 0
    for path in (out / "run").rglob("*.safetensors"):
        hidden = "hidden_prompt.schema" in read_tensors(path)[1]
        path.rename(out / "run" / ("hidden.safetensors" if hidden else "church.safetensors"))
    return out / "run"


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="session")
def key_seed() -> int:
    return KEY_SEED
