"""The benchmarks about real checkpoints run at their smoke size, and what they compute is right on made-up tensors."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
COLUMNS = {
    "memory": {"model", "preset", "weights_gb", "peak_gb", "how"},
    "speed": {"model", "method", "seconds", "device"},
    "precision": {"group", "precision", "esr1", "psr1", "recovery1", "cosine", "psr_low"},
    "many": {"method", "way", "concepts", "esr1", "psr1", "interference"},
}


@pytest.fixture
def benchmark(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module(request.param)


def smoke(benchmark, name: str, monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--smoke"])
    assert benchmark.main() == 0
    rows = json.loads(Path(f"out/benchmarks/{name}_smoke.json").read_text(encoding="utf-8"))
    assert all(COLUMNS[name] <= row.keys() for row in rows)
    return rows


@pytest.mark.parametrize("benchmark", ["precision"], indirect=True)
def test_the_precision_table(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smoke(benchmark, "precision", monkeypatch)
    assert {r["group"] for r in rows} == {"as trained", "real sizes", "rank"}
    exact = next(r for r in rows if r["group"] == "as trained" and r["precision"] == "fp32")
    assert exact["cosine"] > 0.9999 and exact["esr_difference"] == 0


@pytest.mark.parametrize("benchmark", ["many"], indirect=True)
def test_several_concepts(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smoke(benchmark, "many", monkeypatch)
    assert {(r["method"], r["way"]) for r in rows} == {
        (m, w) for m in ("kpop", "uce") for w in ("singly", "stacked", "at once")
    }


@pytest.mark.parametrize("benchmark", ["memory"], indirect=True)
def test_memory_is_computed_and_measured(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smoke(benchmark, "memory", monkeypatch)
    peak = {(r["model"], r["preset"], r["how"]): r["peak_gb"] for r in rows}
    for model in ("sd15", "sdxl"):
        how = "computed from tensor sizes"
        assert peak[model, "low", how] < peak[model, "normal", how] < peak[model, benchmark.AUTHORS, how]
    assert peak["sd15", "low", "measured, CPU RSS"] > 0


@pytest.mark.parametrize("benchmark", ["speed"], indirect=True)
def test_speed_of_each_method(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smoke(benchmark, "speed", monkeypatch)
    assert {r["method"] for r in rows} >= {"kpop", "naive", "esd", "ca", "uce"} and all(r["seconds"] > 0 for r in rows)


@pytest.mark.parametrize("benchmark", ["precision"], indirect=True)
def test_rounding_swallows_small_changes_and_leaves_large_ones(benchmark) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"w": 0.04 * torch.randn(200, 300, generator=generator)}
    delta = {"w": torch.randn(200, 300, generator=generator)}

    def left(dtype: torch.dtype, size: float) -> dict[str, float]:
        return benchmark.likeness(benchmark.rounded(weights, delta, dtype, 1.0, size), delta)

    assert left(torch.float16, 1e-3)["cosine"] > 0.99
    assert left(torch.bfloat16, 1e-5)["cosine"] < 0.6 < left(torch.bfloat16, 1e-3)["cosine"]
    assert left(torch.bfloat16, 1e-5)["along"] == pytest.approx(1, abs=0.1)  # lost in noise, not swallowed
    same = {"w": torch.ones(200, 300)}
    assert benchmark.likeness(benchmark.rounded(same, delta, torch.bfloat16, 1.0, 1e-5), delta)["along"] < 0.1
