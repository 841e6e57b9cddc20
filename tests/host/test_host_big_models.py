"""Real architectures with random weights: train, save, apply, inject, on a CPU and inside 24 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent / "big_model.py"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_two_steps_on_the_real_architecture(family: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), family, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": ""},
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert float(run.stdout.split()[-1]) < 24
