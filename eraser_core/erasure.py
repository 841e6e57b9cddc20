"""An erasure: small changes of a model's weights, as a frozen value and as a file that stock LoRA loaders apply."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import __version__, model_spec
from .errors import FileFormatError, RequestError
from .files import content_hash, read_tensors, tensors_hash, write_tensors
from .text_layers import STABLE_DIFFUSION, reads_text, row_of

SCHEMA = "concept-eraser-1"
VERSION = __version__
MOST_NUMBERS = 1 << 28  # of one weight: four times the largest matrix of any model that is drawn with

DIFFUSERS_TRANSFORMERS = ("flux2", "qwen-image", "z-image")  # whose LoRA loaders there know the matrix that reads text


@dataclass(frozen=True)
class LowRank:
    """W' - W = alpha / r up @ down, with up [out, r], down [r, in] (convolutions: down [r, in, h, w], up [out, r, 1, 1]).

    `alpha` None stands for r, a scale of 1: what this program writes.
    """

    up: Tensor
    down: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def shape(self) -> torch.Size:
        """The weight's."""
        return torch.Size((self.up.shape[0], *self.down.shape[1:]))

    @property
    def size(self) -> tuple[int, float]:
        """(rank, alpha), as a file says them."""
        return self.rank, float(self.rank) if self.alpha is None else self.alpha

    def bound(self) -> float:
        """No number of the change is larger."""
        up, down = (float(t.abs().max()) for t in (self.up.double(), self.down.double()))
        return abs(self.scale) * self.rank * up * down

    def delta(self) -> Tensor:
        """[out, in, ...], float32."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (product if self.alpha is None else product * self.scale).view(self.shape)

    def tensors(self) -> dict[str, Tensor]:
        """By the suffixes of a LoRA file."""
        return {".lora_up.weight": self.up, ".lora_down.weight": self.down, ".alpha": torch.tensor(self.size[1])}

    def to(self, dtype: torch.dtype) -> LowRank:
        return LowRank(self.up.to(dtype), self.down.to(dtype), self.alpha)


@dataclass(frozen=True)
class Dense:
    """W' - W itself, in W's shape; `bias` marks the parameter as one, which a file names differently."""

    diff: Tensor
    bias: bool = False

    @property
    def shape(self) -> torch.Size:
        """The weight's."""
        return self.diff.shape

    def bound(self) -> float:
        """No number of the change is larger."""
        return float(self.diff.double().abs().max())

    def delta(self) -> Tensor:
        return self.diff.float()

    def tensors(self) -> dict[str, Tensor]:
        return {".diff_b" if self.bias else ".diff": self.diff}

    def to(self, dtype: torch.dtype) -> Dense:
        return Dense(self.diff.to(dtype), self.bias)


Entry = LowRank | Dense


def _module(key: str) -> str:
    return key.rpartition(".")[0]


@dataclass(frozen=True)
class Erasure:
    """Entries by canonical parameter name, kohya's name of each module, and what the metadata says.

    `facts` are the `erasure.*` and `modelspec.*` entries of the file; `family` and `base_hash` say which model it was
    made for.
    """

    entries: Mapping[str, Entry]
    file_names: Mapping[str, str]
    family: str
    base_hash: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> Erasure:
        """As a file in this dtype holds it: what is shown, scored and shared are the same numbers."""
        return replace(self, entries={k: e.to(dtype) for k, e in self.entries.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Everything a file holds, by the names in the file."""
        return {
            self.file_names[_module(key)] + suffix: tensor
            for key, entry in self.entries.items()
            for suffix, tensor in entry.tensors().items()
        }

    def fact(self, name: str) -> str:
        """The metadata entry `erasure.NAME`; FileFormatError where the file does not say it."""
        if f"erasure.{name}" not in self.facts:
            raise FileFormatError(
                f"this erasure does not say its {name}: some program rewrote its file, fetch it again"
            )
        return self.facts[f"erasure.{name}"]

    def hash(self) -> str:
        """SHA-256 over the tensors: the identity of an erasure."""
        return tensors_hash(self.tensors())

    def as_edit(self, strength: float = 1.0) -> FrozenEdit:
        """To sample from the sanitized model."""
        return FrozenEdit({key: entry.delta() * strength for key, entry in self.entries.items()})

    def compress(self, rank: int) -> Erasure:
        """Every dense matrix cut to its best approximation of this rank (truncated SVD)."""
        return replace(
            self, entries={k: truncate(e, rank) if _can_cut(e, rank) else e for k, e in self.entries.items()}
        )

    def save(self, path: Path) -> None:
        """Write the file, atomically: kohya's names, metadata that anybody can read."""
        tensors = self.tensors()
        metadata = {
            **self._own_facts(),
            **model_spec.family_facts(self.family, self.facts.get("modelspec.prediction_type", "epsilon")),
            **model_spec.network_facts([e.size if isinstance(e, LowRank) else None for e in self.entries.values()]),
            **({model_spec.USAGE: hint} if (hint := not_loaded(self)) else {}),
            "modelspec.hash_sha256": content_hash(tensors),
            "erasure.schema": SCHEMA,
            "erasure.engine_version": VERSION,
            "erasure.family": self.family,
            "erasure.base_hash": self.base_hash,
            "erasure.keys": json.dumps({key: self.file_names[_module(key)] for key in self.entries}),
            "erasure.tensors_hash": tensors_hash(tensors),
        }
        write_tensors(path, tensors, metadata)

    def _own_facts(self) -> dict[str, str]:
        """Without what `save` says anew: an erasure that was cut to another rank is another network."""
        anew = ("ss_network_", "ss_base_", model_spec.USAGE)
        return {key: value for key, value in self.facts.items() if not key.startswith(anew)}


def reads_in_diffusers(erasure: Erasure) -> bool:
    """Whether diffusers' LoRA loader takes the file: low-rank factors alone, of a family that it knows."""
    low_rank = all(isinstance(entry, LowRank) for entry in erasure.entries.values())
    return erasure.family in ("sd1", "sd2", "sdxl") and low_rank


def not_loaded(erasure: Erasure) -> str:
    """Which program does not load the file, and why; "" where there is nothing to say."""
    if any(isinstance(entry, Dense) for entry in erasure.entries.values()):
        return "a dense change: ComfyUI loads it, diffusers' load_lora_weights does not"
    if row_of(erasure.entries) in (None, STABLE_DIFFUSION):
        return ""
    known = "diffusers does not"
    if erasure.family in DIFFUSERS_TRANSFORMERS:
        known = "diffusers loads it" if all(map(reads_text, erasure.entries)) else "diffusers was not tried"
    return f"a file for a transformer ({erasure.family}): ComfyUI loads it, {known}"


def truncate(entry: Entry, rank: int) -> LowRank:
    """The best approximation of this rank in the Frobenius norm, its weight shared evenly by the two factors."""
    delta = entry.delta()
    u, s, vh = torch.linalg.svd(delta.flatten(1).double(), full_matrices=False)
    root = s[:rank].sqrt()
    up, down = (u[:, :rank] * root).float(), (root[:, None] * vh[:rank]).float()
    if delta.dim() == 4:
        return LowRank(up[:, :, None, None], down.view(-1, *delta.shape[1:]))
    return LowRank(up, down)


def _can_cut(entry: Entry, rank: int) -> bool:
    shape = entry.shape
    return len(shape) >= 2 and rank < min(shape[0], shape[1:].numel())


@dataclass(frozen=True)
class FrozenEdit:
    """Fixed deltas by canonical name, as an `Edit` of a denoiser."""

    deltas: Mapping[str, Tensor]

    @property
    def keys(self) -> Sequence[str]:
        return list(self.deltas)

    def weight(self, key: str, weight: Tensor) -> Tensor:
        return (weight.float() + self.deltas[key].to(weight.device)).to(weight.dtype)

    def tokens(self, tokens: Tensor) -> Tensor:
        return tokens


def stack(erasures: Sequence[Erasure], strengths: Sequence[float]) -> FrozenEdit:
    """Several erasures of one model applied together: their deltas add up."""
    deltas: dict[str, Tensor] = {}
    for erasure, strength in zip(erasures, strengths, strict=True):
        for key, delta in erasure.as_edit(strength).deltas.items():
            deltas[key] = deltas[key] + delta if key in deltas else delta
    return FrozenEdit(deltas)


def load_erasure(path: Path) -> Erasure:
    """Read an erasure file. It may come from anybody: FileFormatError if it is damaged, or no erasure of ours.

    Checked are what the metadata say, shapes, types, ranks and alpha, that all numbers are finite and no change larger
    than half precision holds, and the tensors' hash. A file without a hash loads with a warning.
    """
    from . import records  # not at the host's start: it brings pydantic

    tensors, metadata = read_tensors(path)
    if metadata.get("erasure.schema") != SCHEMA:
        raise FileFormatError(
            f"{path} is no erasure made by this program (its metadata lacks erasure.schema = {SCHEMA}): "
            "a plain LoRA goes into a LoRA loader instead"
        )
    record = records.read(records.ErasureRecord, metadata, path)
    records.finite(tensors, path)
    records.same_tensors(tensors, record.tensors_hash, path)
    left = dict(tensors)
    entries = {key: read_entry(key, name, left, path) for key, name in record.keys.items()}
    if left:
        raise FileFormatError(
            f"{path} is damaged: its metadata do not name the weight of {next(iter(left))}; fetch it again"
        )
    names = {_module(key): name for key, name in record.keys.items()}
    return Erasure(entries, names, record.family, record.base_hash, metadata)


def read_entry(key: str, name: str, left: dict[str, Tensor], path: Path) -> Entry:
    """One entry, its tensors taken out of `left`; FileFormatError where they do not make one."""

    def damaged(what: str) -> FileFormatError:
        return FileFormatError(f"{path} is damaged: {name} {what}; fetch it again")

    def take(suffix: str) -> Tensor:
        if name + suffix not in left:
            raise damaged(f"lacks its tensor {suffix}")
        return left.pop(name + suffix)

    entry: Entry
    if key.endswith(".bias"):
        entry = Dense(take(".diff_b"), bias=True)
    elif name + ".lora_up.weight" in left:
        up, down, alpha = take(".lora_up.weight"), take(".lora_down.weight"), left.pop(name + ".alpha", None)
        fit = up.dim() == down.dim() in (2, 4) and up.shape[1] == down.shape[0] and up.shape[2:].numel() == 1
        if not fit or (alpha is not None and alpha.numel() != 1):
            raise damaged(f"has factors of shapes {list(up.shape)} and {list(down.shape)} that do not fit each other")
        entry = LowRank(up, down, None if alpha is None or float(alpha) == down.shape[0] else float(alpha))
    else:
        entry = Dense(take(".diff"))
    if entry.shape.numel() > MOST_NUMBERS:
        raise damaged(f"would change a weight of shape {list(entry.shape)}, larger than any model's")
    if not entry.bound() <= torch.finfo(torch.float16).max:
        raise damaged("would change a weight by more than half precision holds")
    return entry


def check_fits(erasure: Erasure, family: str, weights: Mapping[str, Tensor]) -> None:
    """Raise RequestError unless every entry has its weight, of its shape, in the model."""
    missing = [k for k in erasure.entries if k not in weights]
    wrong = [k for k in erasure.entries if k in weights and erasure.entries[k].shape != weights[k].shape]
    if erasure.family != family or missing or wrong:
        found = f"{len(missing)} of its {len(erasure.entries)} weights are missing there, {len(wrong)} differ in shape"
        raise RequestError(
            f"this erasure was made for a model of the family {erasure.family!r}, the model given is {family!r} "
            f"({found}): use it with the model it was made for"
        )


def as_facts(values: Mapping[str, Any]) -> dict[str, str]:
    """`erasure.*` metadata from plain values: text as it is, everything else as JSON."""
    return {f"erasure.{k}": v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
