"""Text encoders larger than memory: while a block computes its weights are there, in float32, and nowhere before and after.

The files lie open. What was read once comes from the system's cache as long as there is room. So T5-XXL needs 0.8 GB for a block
and 0.5 GB for its word vectors, and up to about 2 GB for what it computes of 8192 tokens at once: 3.5 GB in all. UMT5-XXL's word
vectors take 4.2 GB, so it needs 7 GB. These are counts. No number is rounded to less than float32, whatever the file's precision is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import ModelError
from .tensor_files import TensorFiles

PREFIXES = ("", "model.", "model.language_model.", "language_model.model.", "language_model.")
# transformers gave one matrix two names, and files hold one of them
TWINS = {"encoder.embed_tokens.weight": "shared.weight", "shared.weight": "encoder.embed_tokens.weight"}


class _Unfilled(TorchFunctionMode):
    """Weights that wait for their file take no memory; what a module computes for itself is there."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        words = dict(kwargs or {})
        if func is torch.empty:
            words["device"] = "meta"
        return func(*args, **words)


def streamed(
    build: Callable[[], nn.Module], blocks: Callable[[Any], Iterable[nn.Module]], files: TensorFiles, device: str
) -> Any:
    """A frozen module whose `blocks` are read from the files for each forward; the rest of it is in memory.

    ModelError for a tensor that is missing, quantised or of another shape than the module's.
    """
    with _Unfilled():
        module = build()
    module.requires_grad_(False).eval()
    names = {id(owner): name for name, owner in module.named_modules()}
    inside = list(blocks(module))
    within = {id(part) for block in inside for part in block.modules()}
    known: dict[str, Tensor] = {}  # a matrix of two names is there once
    for owner in module.modules():
        if id(owner) not in within:
            _fill(owner, names[id(owner)], files, device, known)
            for name, buffer in owner.named_buffers(recurse=False):
                setattr(owner, name, buffer.to(device))
    for block in inside:
        _on_demand(block, names[id(block)], files, device)
    return module


def _on_demand(block: nn.Module, name: str, files: TensorFiles, device: str) -> None:
    def read(_block: nn.Module, _given: Any) -> None:
        for part, module in block.named_modules(prefix=name):
            _fill(module, part, files, device, {})

    def forget(_block: nn.Module, _given: Any, _made: Any) -> None:
        block.to("meta")

    for own, parameter in block.named_parameters(prefix=name):
        _stored(own, parameter, files)  # now, and not after the blocks before it
    block.register_forward_pre_hook(read)
    block.register_forward_hook(forget)


def _fill(module: nn.Module, name: str, files: TensorFiles, device: str, known: dict[str, Tensor]) -> None:
    """The parameters of a module, without those of its parts."""
    state = {}
    for own, parameter in module.named_parameters(recurse=False):
        stored = _stored(f"{name}.{own}".removeprefix("."), parameter, files)
        if stored not in known:
            known[stored] = files.tensor(stored).to(device, torch.float32)
        state[own] = known[stored]
    module.load_state_dict(state, strict=False, assign=True)


def _stored(own: str, parameter: Tensor, files: TensorFiles) -> str:
    """What a parameter is called in the files, where it has the right shape."""
    names = [prefix + name for prefix in PREFIXES for name in (own, TWINS.get(own, own))]
    found = next((name for name in names if name in files), own)
    if found in files:
        files.dtype(found)  # says what is quantised
        if files.shapes[found] != tuple(parameter.shape):
            shapes = f"{list(files.shapes[found])}, not {list(parameter.shape)}"
            raise ModelError(f"{found} in {files.place} has shape {shapes}: is the file damaged?")
        return found
    raise ModelError(f"{files.place} lacks {own}: it is cut short or of another architecture")
