"""What users of a streaming host do (dynamic VRAM, ComfyUI from 0.13 on, NVIDIA only): train before, after and between.

COMFYUI_PATH=<a ComfyUI of today> python -m pytest tests/gpu -s
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from on_gpu import asked, share

from eraser_core.errors import RequestError

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
GB = 1 << 30


def trained(model: Any, clip: Any, **more: Any) -> Any:
    from concept_eraser_pack.nodes.train_run import train

    with torch.inference_mode():  # as the host runs its nodes
        return train(model, clip, asked(**more), "")[0]


def test_the_host_streams_weights_where_it_can(host: Any, checkpoint: Any) -> None:
    import comfy.model_patcher

    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        pytest.skip("this host holds whole models")
    assert checkpoint[0].is_dynamic()


def test_a_second_training_erases_too(host: Any, checkpoint: Any) -> None:
    model, clip, _ = checkpoint
    assert share(host, checkpoint, model) > 0.7
    first = trained(model, clip, filename_prefix="loras/first")[0]
    second, erasure, *_ = trained(model, clip, filename_prefix="loras/second", seed=1)
    assert share(host, checkpoint, first) < 0.3 and share(host, checkpoint, second) < 0.3
    assert share(host, checkpoint, model) > 0.7
    again = trained(first, clip, concepts="guitar", steps=10, filename_prefix="loras/on-top")[0]
    assert share(host, checkpoint, again) < 0.3, "what is on the MODEL already stays on it"
    assert erasure.entries


def test_a_training_that_is_cancelled_leaves_a_model_that_draws(host: Any, checkpoint: Any, base: Path) -> None:
    import comfy.model_management as memory

    model, clip, _ = checkpoint
    timer = threading.Timer(2.0, memory.interrupt_current_processing)
    timer.start()
    try:
        with pytest.raises(memory.InterruptProcessingException):
            trained(model, clip, filename_prefix="loras/cancelled", steps=5000)
    finally:
        timer.cancel()
        memory.interrupt_current_processing(False)
    assert not list((base / "output" / "loras").glob("cancelled*"))
    assert share(host, checkpoint, model) > 0.7


@pytest.mark.parametrize("free", [3, 5, 8])
def test_little_free_memory_is_enough_or_is_said_to_be_too_little(host: Any, tmp_path: Path, free: int) -> None:
    """SD1.5 of true size at 512, fp16."""
    from big_model import load
    from concept_eraser_pack.nodes.values import MethodChoice

    with torch.inference_mode():
        model, clip = load("sd1", tmp_path)
    torch.cuda.empty_cache()
    left = torch.cuda.mem_get_info()[0] - free * GB
    held = torch.empty(left, dtype=torch.uint8, device="cuda")
    short = MethodChoice("kpop", {"latents": "fresh", "sampler_steps": 2})
    try:
        trained(
            model, clip, anchor="castle", retain="house", steps=2, batch=1, memory="auto", method=short,
            filename_prefix=f"loras/free{free}",
        )  # fmt: skip
        print(f"{free} GB free: trained")
    except RequestError as error:
        assert "GB" in str(error) or "not enough memory" in str(error)
        print(f"{free} GB free: {error}")
        assert free < 8, "eight gigabytes were always enough"
    finally:
        del held
        torch.cuda.empty_cache()
