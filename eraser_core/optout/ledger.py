"""The sums of a register's closed form, kept from run to run: ten names more in a thousand cost ten names.

    sum_i C_i  and  sum_i sum (g - s) s^T        [d, d] float64, of text_moments.py

A name that comes is added, one that goes is subtracted. The file also holds the general vocabulary's moment. It names
what the register may say as a hash only, so it is for its owner alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import Json
from torch import Tensor

from ..denoiser import Denoiser
from ..errors import FileFormatError
from ..files import read_tensors, tensors_hash, write_tensors
from ..records import Record, read, same_tensors
from ..request import Target
from ..text_moments import ConceptMoments, concept_moments, know_vocabulary, reader_hash, whole_vocabulary

SCHEMA = "2"  # 1 had the general vocabulary as bare words
EVERY = 50  # names between two writings
AGAIN = "remove it, and the next run makes it anew"


class LedgerRecord(Record):
    """What the ledger's file says of itself."""

    schema_version: str
    reader: str
    targets: Json[tuple[Target, ...]]
    tensors_hash: str


@dataclass(frozen=True)
class Changes:
    """How many targets came and went."""

    added: int
    removed: int


@dataclass(frozen=True)
class _State:
    targets: Mapping[str, Target]
    sums: ConceptMoments


class Ledger:
    """The sums over the targets of the last run, in a file. Another text encoder's file is begun anew."""

    def __init__(self, denoiser: Denoiser, path: Path):
        self._denoiser, self._path, self._reader = denoiser, path, reader_hash(denoiser)
        d = denoiser.encode([""]).tokens.shape[-1]
        self._state = _State({}, ConceptMoments(*(torch.zeros(d, d, dtype=torch.float64) for _ in range(2))))
        if path.is_file():
            self._load()

    def _load(self) -> None:
        tensors, metadata = read_tensors(self._path)
        record = read(LedgerRecord, metadata, self._path, AGAIN)
        if record.schema_version != SCHEMA or record.reader != self._reader:
            return
        shapes = {name: tuple(t.shape) for name, t in tensors.items()}
        if shapes != dict.fromkeys(("c", "towards", "vocabulary"), tuple(self.sums.c.shape)):
            raise FileFormatError(f"{self._path} holds other tensors than a ledger of this model has: {AGAIN}")
        same_tensors(tensors, record.tensors_hash, self._path)
        targets = {digest(target): target for target in record.targets}
        self._state = _State(targets, ConceptMoments(tensors["c"], tensors["towards"]))
        know_vocabulary(self._reader, tensors["vocabulary"])

    def update(self, wanted: Sequence[Target], on_target: Callable[[int], None] = lambda count: None) -> Changes:
        """Bring the sums to these targets. `on_target` hears of each that was read; what was read is not lost when it
        raises, or when the process is killed, but for the last EVERY."""
        by_digest = {digest(target): target for target in wanted}
        gone = [key for key in self._state.targets if key not in by_digest]
        new = [key for key in by_digest if key not in self._state.targets]
        try:
            for done, key in enumerate([*gone, *new], 1):
                self._move(key, by_digest)
                if done % EVERY == 0:
                    self.save()
                on_target(1)
        finally:
            if gone or new:
                self.save()
        return Changes(len(new), len(gone))

    def _move(self, key: str, wanted: Mapping[str, Target]) -> None:
        """One target in or out. The state changes at once, so whatever interrupts this leaves a whole one."""
        targets, sums, coming = dict(self._state.targets), self._state.sums, key in wanted
        target = wanted[key] if coming else targets.pop(key)
        if coming:
            targets[key] = target
        found, sign = concept_moments(self._denoiser, target), 1 if coming else -1
        self._state = _State(targets, ConceptMoments(sums.c + sign * found.c, sums.towards + sign * found.towards))

    @property
    def sums(self) -> ConceptMoments:
        """Over all targets; [d, d] float64 each."""
        return self._state.sums

    def save(self) -> None:
        """Write the file; OutputError where that cannot be."""
        tensors: dict[str, Tensor] = {
            "c": self.sums.c,
            "towards": self.sums.towards,
            "vocabulary": whole_vocabulary(self._denoiser),
        }
        metadata = {
            "schema_version": SCHEMA,
            "reader": self._reader,
            "targets": json.dumps([asdict(target) for target in self._state.targets.values()]),
            "tensors_hash": tensors_hash(tensors),
        }
        write_tensors(self._path, tensors, metadata, private=True)


def digest(target: Target) -> str:
    """Equal for equal targets."""
    return hashlib.sha256(json.dumps(asdict(target)).encode("utf-8")).hexdigest()
