"""How a MODEL is held and computed with while it is trained on."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import comfy.model_management as memory
import torch

from eraser_core.errors import ModelError, RequestError

from . import model as host_model

Compute = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST = 64  # pixels


def latent_size(name: str, side: int, pixels: int) -> int:
    """A side of the latents for one of a picture; RequestError for one that they do not divide."""
    if side < SMALLEST or side % pixels:
        raise RequestError(f"{name} is {side}: it must be {SMALLEST} or more and divide by {pixels}")
    return side // pixels


def static_clone(model: Any) -> Any:
    """A clone whose weights stay where they are loaded (hosts from 0.13 on stream them through a shared buffer)."""
    if not getattr(model, "is_dynamic", lambda: False)():
        return model.clone()
    if "disable_dynamic" not in inspect.signature(model.clone).parameters:
        raise ModelError(
            "this version of ComfyUI streams models through memory and cannot hold one whole: update ComfyUI, or start it "
            "with --disable-dynamic-vram"
        )
    try:
        return model.clone(disable_dynamic=True)
    except (TypeError, RuntimeError) as error:
        raise ModelError(
            f"this MODEL cannot be held in memory as a whole ({error}): load it with Load Checkpoint or Load Diffusion Model"
        ) from error


def compute_dtype(compute: Compute, own: torch.dtype, device: torch.device, low: bool) -> torch.dtype:
    """What the forwards compute in. fp16 only where memory is short: the others have its range and more."""
    if compute != "auto":
        return DTYPES[compute]
    able = not memory.is_device_cpu(device)
    if own == torch.float16 and low and able and memory.should_use_fp16(device):
        return own
    if own in (torch.float16, torch.bfloat16, *host_model.FP8):
        return torch.bfloat16 if able and memory.should_use_bf16(device) else torch.float32
    return own
