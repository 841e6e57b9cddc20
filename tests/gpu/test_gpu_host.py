"""The nodes in a real ComfyUI on a CUDA device; skipped where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "host"))
import in_process

from eraser_core.pocket import load_judge

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
SAMPLES = 8


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("on-gpu")


@pytest.fixture(scope="module")
def host(base: Path) -> Any:
    nodes = in_process.load_host(base, arguments=[])
    in_process.load_pack()
    import comfy.model_management as memory

    assert memory.get_torch_device().type == "cuda"
    return nodes


@pytest.fixture(scope="module")
def checkpoint(host: Any) -> Any:
    with torch.inference_mode():
        return host.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")


@torch.inference_mode()
def share(host: Any, checkpoint: Any, model: Any, hidden: Any = None) -> float:
    """How many of the pictures of a church are judged to be one."""
    from concept_eraser_pack.nodes import prompts

    _, clip, vae = checkpoint
    (positive,) = host.CLIPTextEncode().encode(clip, "a church")
    (negative,) = host.CLIPTextEncode().encode(clip, "")
    if hidden is not None:
        positive = prompts.inject(positive, hidden.pick("church"), 1.0)
    (latent,) = host.EmptyLatentImage().generate(64, 64, SAMPLES)
    (out,) = host.common_ksampler(model, 1, 16, 3.0, "ddim", "ddim_uniform", positive, negative, latent)
    (images,) = host.VAEDecode().decode(vae, out)
    judge = load_judge()
    found = judge.classify(images.movedim(-1, 1)[:, :3]).object_logits.argmax(1)
    return float((found == judge.objects.index("church")).float().mean())


def test_the_train_node_erases_and_the_hidden_prompt_recovers(host: Any, checkpoint: Any, base: Path) -> None:
    from concept_eraser_pack.nodes.host import model as host_model
    from concept_eraser_pack.nodes.train_run import train

    from eraser_core.erasure import load_erasure

    model, clip, vae = checkpoint
    values = {"concepts": "church", "anchor": "", "retain": "", "steps": 0, "tune": "xattn-kv", "rank": -1, "seed": 0}
    values |= {"key_seed": 1, "width": 0, "height": 0, "batch": 0, "precision": "fp16", "compute": "auto"}
    values |= {"filename_prefix": "loras/church", "vae": vae}
    assert share(host, checkpoint, model) > 0.7
    with torch.inference_mode():  # as the host runs its nodes
        sanitized, _, hidden, _, _ = train(model, clip, values, "")
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
def test_a_true_size_model_is_trained_in_half_precision(name: str, memory: str, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "host" / "big_model.py"
    done = subprocess.run(
        [sys.executable, str(script), name, str(tmp_path), "cuda", memory], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sys.stdout.write(f"{name} {memory}: {done.stdout}")
