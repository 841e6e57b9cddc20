"""The sum over files of what each did to its own concepts: sum_i dW_i C_i, with C_i = s^T s of concept i's tokens s [m, d]."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..erasure import Entry, LowRank

TOGETHER = 256  # columns of factors that are multiplied at once


class Sums:
    """sum_i dW_i C_i, [out, d] float32, of every layer that some file changes.

    The product of one file's factors, of rank 16 or so, waits for memory most of its time. So the factors of several files
    are put side by side and multiplied together.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: torch.device):
        self._weights, self._device = weights, device
        self._sums: dict[str, Tensor] = {}
        self._ups: dict[str, list[Tensor]] = {}
        self._reads: dict[str, list[Tensor]] = {}

    def add(self, entries: Mapping[str, Entry], s: Tensor) -> None:
        """One file's changes, and the tokens s [m, d] float32 of its concepts."""
        s = s.to(self._device)
        reads = _reads(entries, s)
        for key, entry in entries.items():
            if key not in self._sums:
                self._sums[key] = torch.zeros(self._weights[key].shape, device=self._device)
            if not isinstance(entry, LowRank):
                self._sums[key].addmm_(entry.delta().to(self._device) @ s.T, s)
                continue
            self._ups.setdefault(key, []).append(entry.scale * entry.up.to(self._device, torch.float32))
            self._reads.setdefault(key, []).append(reads[key])
            if sum(up.shape[1] for up in self._ups[key]) >= TOGETHER:
                self._multiply(key)

    def whole(self) -> dict[str, Tensor]:
        """The sums over all files so far."""
        for key in list(self._ups):
            self._multiply(key)
        return self._sums

    def _multiply(self, key: str) -> None:
        self._sums[key].addmm_(torch.cat(self._ups.pop(key), dim=1), torch.cat(self._reads.pop(key)))


def _reads(entries: Mapping[str, Entry], s: Tensor) -> dict[str, Tensor]:
    """down s^T s [r, d] of every low-rank change. Closed forms have one `down` in all layers: it is multiplied once."""
    downs: list[Tensor] = []
    places: dict[str, int] = {}
    for key, entry in entries.items():
        if isinstance(entry, LowRank):
            if not downs or not torch.equal(downs[-1], entry.down):
                downs.append(entry.down)
            places[key] = len(downs) - 1
    if not downs:
        return {}
    product = torch.cat([down.to(s.device, torch.float32) for down in downs]) @ s.T @ s
    parts = product.split([len(down) for down in downs])
    return {key: parts[place] for key, place in places.items()}
