"""Modules made from a configuration and filled from a file, tensor by tensor: never twice in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import ModelError

Module = TypeVar("Module", bound=nn.Module)


def filled(
    build: Callable[[], Module], tensor: Callable[[str], Tensor], device: str, dtype: torch.dtype | None = None
) -> Module:
    """A frozen module in eval mode, whose parameter `name` is `tensor(name)` on `device` in `dtype` (None: as it comes).

    ModelError when a shape is another than the module's.
    """
    with torch.device("meta"):
        module = build()
    state = {}
    for name, parameter in module.named_parameters():
        value = tensor(name)
        if value.shape != parameter.shape:
            raise ModelError(f"{name} has shape {list(value.shape)}, not {list(parameter.shape)}: is the file damaged?")
        state[name] = value.to(device, dtype or value.dtype)
    module.load_state_dict(state, strict=False, assign=True)
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if name != "position_ids":
                raise ModelError(f"{type(owner).__name__} has a buffer {name!r} that is not known here")
            setattr(owner, name, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape))
    return module.requires_grad_(False).eval()
