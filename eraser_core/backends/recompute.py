"""Gradient checkpointing of a UNet under an edit: what is computed again in the backward is what was computed.

An edit is put in by `functional_call` for one forward, and is gone when the backward computes a block again: diffusers'
own checkpointing would recompute with the frozen weights. Here the block and its edited weights are recomputed
together, so the edited weights themselves need not be kept either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


class Recomputed:
    """Makes diffusers recompute a UNet's transformer blocks and residual blocks in the backward.

    `inside` are diffusers' names of the parameters of transformer blocks, whose edits are formed in here.
    """

    def __init__(self, unet: UNet2DConditionModel):
        self._blocks: dict[int, Mapping[str, str]] = {}
        for name, module in unet.named_modules():
            if isinstance(module, BasicTransformerBlock):
                self._blocks[id(module)] = {f"{name}.{own}": own for own, _ in module.named_parameters()}
        self.inside = {whole for names in self._blocks.values() for whole in names}
        self._changed: Mapping[str, Callable[[], Tensor]] = {}
        unet.enable_gradient_checkpointing(self._run)

    @contextmanager
    def under(self, changed: Mapping[str, Callable[[], Tensor]]) -> Iterator[None]:
        """For one forward: how to form W' for parameters of transformer blocks, by diffusers' names."""
        self._changed = changed
        try:
            yield
        finally:
            self._changed = {}

    def _run(self, module: nn.Module, *args: Any) -> Any:
        names, changed = self._blocks.get(id(module)), self._changed
        if names is None:
            now: dict[str, Tensor] = dict(module.named_parameters())  # as edited for this forward

            def again(*args: Any) -> Any:
                return functional_call(module, now, args)
        else:
            form = {own: changed[whole] for whole, own in names.items() if whole in changed}

            def again(*args: Any) -> Any:
                return functional_call(module, {own: make() for own, make in form.items()}, args)

        # nothing in a frozen UNet draws random numbers
        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False)
