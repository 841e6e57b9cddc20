"""What a real checkpoint is read as holds in every command, and what is named to be retained is retained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import write_checkpoint
from tiny_model import QUICK

from eraser_core.__main__ import main
from eraser_core.erasure import load_erasure
from eraser_core.methods import METHODS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", "sd1", dtype=torch.float16)


@pytest.fixture(scope="module")
def erased(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("erased") / "church"
    words = ["erase", "--model", str(model), "--concept", "church", "--retain", "castle", "a dog", "--size", "64"]
    assert main([*words, *QUICK, "--images", "0", "--out", str(out)]) == 0
    return out


def test_what_is_named_to_be_retained_has_a_loss_of_its_own(erased: Path) -> None:
    losses = json.loads((erased / "metrics.json").read_text(encoding="utf-8"))["losses"]
    assert all("retain" in step for step in losses)
    for method in METHODS.values():
        if method.learner is not None:
            expected = 4 if method.name in ("robust", "locked") else 1
            assert method.configure("sdxl", {}, True).retain_weight == expected
            assert method.configure("sdxl", {}, False).retain_weight == 0
            assert method.configure("sdxl", {"retain_weight": 0}, True).retain_weight == 0


def test_without_an_anchor_the_nearest_of_the_retain_set_is_drawn(erased: Path) -> None:
    request = json.loads(load_erasure(erased / "church.safetensors").facts["erasure.request"])
    assert request["targets"][0]["anchor"] in ("castle", "a dog")


def test_a_suite_reads_the_model_as_its_switches_say(
    model: Path, erased: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    prompts = tmp_path / "i2p.csv"
    prompts.write_text("prompt,evaluation_seed,evaluation_guidance\na church,1,7.5\n", encoding="utf-8")
    words = ["benchmark", "i2p", "--prompts", str(prompts), "--model", str(model), "--steps", "2", "--maps", "0"]
    words += ["--erasure", str(erased / "church.safetensors"), "--weights", str(tmp_path / "none")]
    words += ["--size", "64", "--out", str(tmp_path / "out")]
    assert main([*words, "--prediction", "v", "--zero-snr"]) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["prediction"] == "v_prediction" and manifest["latent_shape"] == [4, 8, 8]
    assert main(words) == 2 and "its prediction differs" in capsys.readouterr().err
    assert main([*words, "--prediction", "v"]) == 2 and "its schedule_hash differs" in capsys.readouterr().err
