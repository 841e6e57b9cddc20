"""The pack must not slow the host's start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "import_time.py"


def test_the_import_adds_under_0_3_seconds_and_nothing_heavy() -> None:
    """Processor seconds: a busy machine does not change them much."""
    run = subprocess.run([sys.executable, str(BENCHMARK)], capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout)
    assert figures["processor_seconds"] < 0.3
    assert figures["heavy_modules"] == []
    assert "eraser_core" in figures["new_packages"]  # it was imported at all
