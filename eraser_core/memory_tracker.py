"""How many bytes of tensors are alive, and the training step that keeps them alive."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .denoiser import Context, Denoiser
from .edits import TrainableEdit
from .training import Learner, TrainingSettings, optimizer


class Tracker(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and the most there were. Works on real and on fake tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return found

    def leave_out(self, tensor: Tensor) -> None:
        """Do not count it, nor views of it."""
        self._seen.add(tensor.untyped_storage()._cdata)

    def _count(self, storage: torch.UntypedStorage) -> None:
        at = storage._cdata
        if at in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(at)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, at, size)

    def _forget(self, at: int, size: int) -> None:
        self._seen.discard(at)
        self.alive -= size


def forwards(settings: TrainingSettings, learner: type[Learner], batch: int, chunk: int) -> tuple[tuple[int, int], ...]:
    """(rows, tokens) of the forwards whose graphs are alive at once: the student's, with the retain set's rows in it,
    then those with a hidden prompt, with the rows that it must leave as they are."""
    left = 1 + (getattr(settings, "opens", 0) > 0)
    prompt = getattr(settings, "k", 0) if getattr(settings, "mechanism", "") == "concatenative" else 0
    return ((settings.student_rows(batch), chunk), *[(batch * left, chunk + prompt)] * (learner.graphs - 1))


def take_step(
    denoiser: Denoiser, edit: TrainableEdit, moments: int, inputs: Iterable[tuple[Tensor, Tensor, Context]]
) -> None:
    """All tensors of a step: the optimiser's moments, the graph of every forward (z_t, t, c), the backward, the descent."""
    state = [torch.zeros_like(p) for p in edit.parameters() for _ in range(moments)]
    losses = [denoiser.predict(z_t, t, context, edit).square().mean() for z_t, t, context in inputs]
    torch.stack(losses).sum().backward()
    del state  # a first descent makes it
    optimizer("adam" if moments else "sgd", edit.parameters(), 1.0).step()
