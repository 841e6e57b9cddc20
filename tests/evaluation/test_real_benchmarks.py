"""The benchmarks about real checkpoints run at their smoke size, and what they compute is right on made-up tensors."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
COLUMNS = {
    "memory": {"model", "preset", "weights_gb", "peak_gb", "how"},
    "speed": {"model", "method", "seconds", "device"},
    "precision": {"group", "precision", "esr1", "psr1", "recovery1", "cosine", "drawn"},
    "many": {"way", "concepts", "esr1", "kept1", "recovery1"},
    "many_styles": {"way", "kept_style", "esr1", "style1", "recovery1"},
    "many_stacked": {"method", "way", "concepts", "esr1", "psr1", "interference"},
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
    assert exact["cosine"] > 0.9999 and len(exact["esr1_hits"]) == 2
    paired = json.loads(Path("out/benchmarks/precision_smoke_paired.json").read_text(encoding="utf-8"))
    assert paired[0]["precision"] == "fp32" and paired[0]["esr1_difference"] == 0


@pytest.mark.parametrize("benchmark", ["precision"], indirect=True)
def test_conditions_are_paired_picture_by_picture_over_the_objects(benchmark) -> None:
    def row(concept: str, precision: str, hits: str) -> dict:
        figures = {f"{figure}_hits": hits for figure in benchmark.FIGURES}
        named = {"group": "as trained", "delta": None, "precision": precision, "rank": None}
        return {"concept": concept, **named, **figures, "drawn": True}

    rows = [row("dog", "fp32", "1111"), row("dog", "bf16", "1101"), row("cat", "bf16", "01"), row("cat", "fp32", "00")]
    exact, bf16 = benchmark.paired([*rows, {**row("dog", "fp16", ""), "drawn": False}])
    assert (exact["esr1"], exact["esr1_difference"], exact["n"]) == (4 / 6, 0, 6)
    assert bf16["esr1"] == pytest.approx(4 / 6) and bf16["esr1_difference"] == pytest.approx(0)  # one lost, one won
    assert bf16["esr1_low"] < -0.2 and bf16["esr1_high"] > 0.2
    (worse,) = benchmark.paired([rows[0], rows[1]])[1:]
    assert worse["psr1_difference"] == -0.25


@pytest.mark.parametrize("benchmark", ["many"], indirect=True)
def test_many_opt_outs(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smoke(benchmark, "many", monkeypatch)
    assert {"KPOP files stacked", "KPOP files combined", "UCE, moments"} < {r["way"] for r in rows}


@pytest.mark.parametrize("benchmark", ["many_styles"], indirect=True)
def test_all_styles_but_one(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smoke(benchmark, "many_styles", monkeypatch)
    assert {r["way"] for r in rows} == {"untouched", *benchmark.WAYS}
    assert {r["kept_style"] for r in rows} == {"ink"}


@pytest.mark.parametrize("benchmark", ["many_stacked"], indirect=True)
def test_several_concepts(benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = smoke(benchmark, "many_stacked", monkeypatch)
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
        assert peak[model, "normal", how] < peak[model, "normal" + benchmark.KEPT, how]
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
