"""The nodes in a real ComfyUI on a CUDA device; skipped where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from on_gpu import asked, share

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def test_the_train_node_erases_and_the_hidden_prompt_recovers(host: Any, checkpoint: Any, base: Path) -> None:
    from concept_eraser_pack.nodes.host import model as host_model
    from concept_eraser_pack.nodes.train_run import train

    from eraser_core.erasure import load_erasure

    model, clip, vae = checkpoint
    values = asked(filename_prefix="loras/church", vae=vae)
    assert share(host, checkpoint, model) > 0.7
    with torch.inference_mode():  # as the host runs its nodes
        (sanitized, _, hidden, _, _), _ = train(model, clip, values, "")
        (file,) = (base / "output" / "loras").glob("church*.safetensors")
        applied = host_model.apply_erasure(model, load_erasure(file), 1.0, "test")
    assert share(host, checkpoint, sanitized) < 0.3 and share(host, checkpoint, applied) < 0.3
    assert share(host, checkpoint, sanitized, hidden) > 0.7
    assert share(host, checkpoint, model) > 0.7  # the user's own model is untouched


def test_the_closed_form_and_attribution_nodes_run_there(host: Any, checkpoint: Any) -> None:
    from concept_eraser_pack.nodes.attribution import attribute
    from concept_eraser_pack.nodes.closed_form_run import solve
    from concept_eraser_pack.nodes.values import MethodChoice

    model, clip, vae = checkpoint
    values = {"concepts": "church", "anchor": "", "retain": "", "precision": "fp16", "filename_prefix": "loras/uce"}
    with torch.inference_mode():
        sanitized, *_ = solve(model, clip, MethodChoice("uce"), values, "")
    assert share(host, checkpoint, sanitized) < share(host, checkpoint, model)
    asked = {"prompt": "a church", "words": "church", "batch": 2, "steps": 2, "cfg": 0.0, "width": 0, "height": 0}
    with torch.inference_mode(False), torch.no_grad():  # as its `execute` does
        sheet, pictures, masks, _ = attribute(sanitized, clip, vae, asked | {"seed": 0})
    assert len(pictures) == len(masks) == 2 and bool(sheet.isfinite().all())


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
@pytest.mark.parametrize("memory", ["normal", "low"])
def test_a_true_size_model_is_trained_in_half_precision(name: str, memory: str, true_size: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "host" / "big_model.py"
    done = subprocess.run(
        [sys.executable, str(script), name, str(true_size), "cuda", memory], capture_output=True, text=True
    )
    for output in (true_size / "output").rglob("*.safetensors"):
        output.unlink()
    assert done.returncode == 0, done.stderr[-3000:]
    sys.stdout.write(f"{name} {memory}: {done.stdout}")


@pytest.fixture(scope="module")
def true_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("true-size")
