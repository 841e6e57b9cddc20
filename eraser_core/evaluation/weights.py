"""Weights that the user has on disk: nothing here downloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelError


def read_weights(path: Path, wanted: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth file as torchvision publishes them (tensors alone are read).

    `wanted` says in words which file belongs there. ModelError if it is missing or no such file.
    """
    if not path.is_file():
        raise ModelError(
            f"there is no file {path.resolve()}: it should be {wanted}. Nothing is downloaded: put it there"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise a dozen kinds
        raise ModelError(f"cannot read {path.resolve()} ({error}): it should be {wanted}".replace("\n", " ")) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ModelError(f"{path.resolve()} is no list of weights: it should be {wanted}")
    return dict(loaded)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, wanted: str) -> None:
    """Copy weights into a module, every one of them; ModelError if some are missing or of another shape."""
    own = module.state_dict()
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    wrong = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if missing or wrong:
        first = (missing + wrong)[0]
        raise ModelError(
            f"{path.resolve()} holds another network: {first} is {'missing' if missing else 'of another shape'}; it should be {wanted}"
        )
    module.load_state_dict({name: tensors[name] for name in own if name in tensors}, strict=False)
    module.requires_grad_(False).eval()


def check_pictures(images: Tensor) -> None:
    """ModelError unless these are pictures [b, 3, h, w]."""
    if images.dim() != 4 or images.shape[1] != 3:
        raise ModelError(f"pictures must be [b, 3, h, w] in [0, 1], these are {list(images.shape)}")
