"""Gradient checkpointing of a UNet under an edit: what is computed again in the backward is what was computed.

An edit is put in by `functional_call` for one forward, and is gone when the backward computes a block again: a library's
own checkpointing would recompute with the frozen weights. Here the block and its edited weights are recomputed
together, so the edited weights themselves need not be kept either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


class Recomputed:
    """Runs modules of a UNet so that the backward computes them again.

    `blocks` are those, by name, that form their edits in here; `inside` are the whole names of their parameters. Any
    other module is recomputed with the parameters that it had in the forward. `draws`: they may draw random numbers (a
    host's patches do), and then draw the same ones again. `within` is entered around each computation.
    """

    def __init__(
        self,
        blocks: Mapping[str, nn.Module],
        draws: bool = False,
        within: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        self._draws, self._within = draws, within
        self._blocks = {
            id(module): {f"{name}.{own}": own for own, _ in module.named_parameters()}
            for name, module in blocks.items()
        }
        self.inside = {whole for names in self._blocks.values() for whole in names}
        self._changed: Mapping[str, Callable[[], Tensor]] = {}
        self._weights: Mapping[str, Tensor] = {}

    @contextmanager
    def under(
        self, changed: Mapping[str, Callable[[], Tensor]], weights: Mapping[str, Tensor] | None = None
    ) -> Iterator[None]:
        """For one forward: how to form W' for parameters inside, and what stands for the others where it is not they."""
        self._changed, self._weights = changed, weights or {}
        try:
            yield
        finally:
            self._changed, self._weights = {}, {}

    def run(self, module: nn.Module, *args: Any, **words: Any) -> Any:
        """The module's output."""
        names, changed = self._blocks.get(id(module)), self._changed
        if names is None:
            now: dict[str, Tensor] = dict(module.named_parameters())  # as edited for this forward

            def again(*args: Any, **words: Any) -> Any:
                with self._within():
                    return functional_call(module, now, args, words)
        else:
            form = {own: changed[whole] for whole, own in names.items() if whole in changed}
            rest = {own: self._weights[whole] for whole, own in names.items() if whole in self._weights}

            def again(*args: Any, **words: Any) -> Any:
                with self._within():
                    return functional_call(module, rest | {own: make() for own, make in form.items()}, args, words)

        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=self._draws, **words)
