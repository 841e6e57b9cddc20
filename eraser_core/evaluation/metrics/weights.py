"""Weights that the user has on disk: nothing here downloads, and only safetensors are read.

Published .pth files are converted once, outside this program (torch.load can run what it reads, so it is not ours to
call):

    import torch; from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in torch.load("X.pth", map_location="cpu", weights_only=True).items()}, "X.safetensors")
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import ModelError


def conversion(source: Path) -> str:
    """The two lines of Python that turn a .pth file of tensors into the .safetensors beside it."""
    return (
        "convert it once, in Python: `import torch; from safetensors.torch import save_file` and "
        f"`save_file({{k: v.contiguous() for k, v in torch.load({source.name!r}, map_location='cpu', weights_only=True).items()}}, "
        f"{source.with_suffix('.safetensors').name!r})`"
    )


def read_weights(path: Path, wanted: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU.

    `wanted` says in words which file belongs there. ModelError if it is missing, damaged or of another format.
    """
    published = path.with_suffix(".pth")
    if path.suffix == ".safetensors" and not path.is_file() and published.is_file():
        raise ModelError(f"{published.resolve()} is not read, only safetensors are: {conversion(published)}")
    if not path.is_file():
        raise ModelError(
            f"there is no file {path.resolve()}: it should be {wanted}, as safetensors. Nothing is downloaded: put it "
            f"there; where you have a .pth file, {conversion(published)}"
        )
    if path.suffix != ".safetensors":
        raise ModelError(f"{path.resolve()} is not read, only safetensors are: {conversion(path)}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot read {path.resolve()} ({error}): it should be {wanted}".replace("\n", " ")) from error


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
