"""True architectures from one file: what the engine reads, encodes, predicts and trains is what the host does.

By hand, where 24 GB are free: `python -m pytest -m slow tests/host/test_host_true_parity.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).resolve().parent / "true_parity.py"


def run(*words: str) -> float:
    """One process; its peak memory in GB, or 0."""
    environment = os.environ | {"PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return float(done.stdout.split()[-1]) if done.stdout.split() else 0.0


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_both_faces_agree_on_a_true_checkpoint(family: str, tmp_path: Path) -> None:
    model = tmp_path / "true.safetensors"
    run("write", family, str(model))
    for face in ("engine", "host"):
        assert run(face, str(model), str(tmp_path / f"{face}.out")) < 24
    ours, theirs = (load_file(tmp_path / f"{face}.out") for face in ("engine", "host"))
    assert ours.keys() == theirs.keys()
    assert float((ours["tokens"] - theirs["tokens"]).abs().max()) < 1e-3 * float(theirs["tokens"].abs().max())
    if family == "sdxl":
        assert float((ours["pooled"] - theirs["pooled"]).abs().max()) < 1e-3 * float(theirs["pooled"].abs().max())
        assert (ours["sizes"] == theirs["sizes"]).all()
    assert float((ours["prediction"] - theirs["prediction"]).abs().max()) < 1e-4
    assert float(theirs["prediction"].abs().max()) > 1e-2
    moved = (theirs["trained"] - theirs["start"]).norm()
    assert (ours["start"] == theirs["start"]).all() and float(moved) > 0
    assert float((ours["trained"] - theirs["trained"]).norm() / moved) < 1e-3
