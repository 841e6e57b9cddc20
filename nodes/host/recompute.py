"""Gradient checkpointing of the host's networks: their transformer and residual blocks are computed again in the backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from comfy.ldm.lumina.model import JointTransformerBlock
from comfy.ldm.modules.attention import BasicTransformerBlock, attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import nn

from eraser_core.backends.recompute import Recomputed

Run = Callable[..., Any]
BLOCKS = (BasicTransformerBlock, ResBlock, JointTransformerBlock)


def blocks(unet: nn.Module) -> Recomputed:
    """Edits are formed inside the blocks, where the edited weights of a step need not be kept."""
    return Recomputed({name: m for name, m in unet.named_modules() if isinstance(m, BLOCKS)}, draws=True)


def differentiable_attention(_: Any, *args: Any, **words: Any) -> Any:
    """An override of the host's attention: some of its own have no backward, and some choose their pieces by the memory
    that is free at the moment, which is another in the backward."""
    return attention_pytorch(*args, **words)


@contextmanager
def rerouted(unet: nn.Module, run: Run) -> Iterator[None]:
    """For one forward, every such block goes through `run(block, ...)`. The user's model is left as it was."""
    found = [m for m in unet.modules() if isinstance(m, BLOCKS)]
    before = [vars(module).get("forward") for module in found]  # of a custom node that put its own in
    for module, own in zip(found, before, strict=True):
        vars(module)["forward"] = partial(_call, module, own, run)
    try:
        yield
    finally:
        for module, own in zip(found, before, strict=True):
            _put(module, own)


def _call(module: nn.Module, own: Any, run: Run, *args: Any, **words: Any) -> Any:
    if "transformer_options" in words:  # the host writes the number of the next block into it
        words["transformer_options"] = dict(words["transformer_options"])
    rerouted_forward = vars(module)["forward"]
    _put(module, own)
    try:
        return run(module, *args, **words)
    finally:
        vars(module)["forward"] = rerouted_forward


def _put(module: nn.Module, forward: Any) -> None:
    if forward is None:
        del vars(module)["forward"]
    else:
        vars(module)["forward"] = forward
