"""Gradients through the host's networks, which were written to draw: attention with a backward, sums that overwrite
nothing, and checkpointing, by which their transformer and residual blocks are computed again in the backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import comfy.model_management as memory
import torch
from comfy.ldm.cosmos.predict2 import Block as CosmosBlock
from comfy.ldm.flux.layers import DoubleStreamBlock, SingleStreamBlock
from comfy.ldm.lumina.model import JointTransformerBlock
from comfy.ldm.modules.attention import BasicTransformerBlock, attention_pytorch
from comfy.ldm.modules.diffusionmodules.mmdit import JointBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.ldm.pixart import blocks as pixart
from comfy.ldm.pixart.pixartms import PixArtMSBlock
from comfy.ldm.qwen_image.model import QwenImageTransformerBlock
from comfy.ldm.wan.model import WanAttentionBlock
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from eraser_core.backends.recompute import Recomputed

Run = Callable[..., Any]
UNET_BLOCKS = (BasicTransformerBlock, ResBlock)
TRANSFORMER_BLOCKS = (
    *(DoubleStreamBlock, SingleStreamBlock, JointTransformerBlock, JointBlock),
    *(QwenImageTransformerBlock, PixArtMSBlock, WanAttentionBlock, CosmosBlock),
)
KITCHEN = "comfy_kitchen"
BLOCKS = UNET_BLOCKS + TRANSFORMER_BLOCKS


class _Differentiable(TorchFunctionMode):
    """What the host's networks do without a thought for gradients, done with one.

    `a += b` makes a new tensor: Flux adds to what the backward still needs, and recomputing a block would add twice. Python
    says it as `a = a.add_(b)`; these networks never call `add_` without taking what it gives. And newer hosts have kernels
    of comfy-kitchen's, which have no backward: the same functions in plain PyTorch lie beside them.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_grad_enabled():
            if func is Tensor.add_:
                func = torch.add
            elif str(getattr(func, "_qualified_op_name", "")).startswith(KITCHEN + "::"):
                func = getattr(import_module(f"{KITCHEN}.backends.eager.rope"), func.__name__, func)
        return func(*args, **(kwargs or {}))


@contextmanager
def differentiable() -> Iterator[None]:
    """For one forward with gradient: also the host's own word that it trains."""
    before, attention = getattr(memory, "in_training", None), pixart.optimized_attention
    if before is not None:
        memory.in_training = True
    pixart.optimized_attention = attention_pytorch  # it hands no override on
    try:
        with _Differentiable():
            yield
    finally:
        pixart.optimized_attention = attention
        if before is not None:
            memory.in_training = before


def blocks(unet: nn.Module) -> Recomputed:
    """Edits are formed inside the blocks, where the edited weights of a step need not be kept."""
    return Recomputed({name: m for name, m in unet.named_modules() if isinstance(m, BLOCKS)}, True, differentiable)


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
