"""A whole checkpoint with erasures worked into its weights: one tensor in memory at a time."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from . import model_spec, records
from .backends.architecture import UNET, recognise
from .backends.tensor_files import TensorFiles
from .erasure import Entry, Erasure, check_fits
from .errors import FileFormatError, OutputError
from .files import replacing

UNET_IN_MEMORY = "diffusion_model."
CHUNK = 1 << 24
LENGTH = struct.Struct("<Q")  # of the header, before it


def merge(model: Path, erasures: Sequence[Erasure], strength: float, out: Path) -> int:
    """Write `model` with W + strength * delta for every weight that an erasure changes; returns how many those are.

    Names, order and types stay; the metadata say in addition which erasures are in it. The sum is formed in float32 and
    rounded to the type of the file once. The file appears whole or not at all. RequestError when an erasure does not fit,
    OutputError when it cannot be written.
    """
    if out.exists() and model.exists() and out.samefile(model):
        raise OutputError(f"{out} is the checkpoint that is read: choose another name")
    files = TensorFiles([model])
    family = recognise(files.shapes, str(model)).family
    own = {UNET_IN_MEMORY + n.removeprefix(UNET): n for n in files.shapes if n.startswith(UNET)}
    shapes = {key: torch.empty(files.shapes[name], device="meta") for key, name in own.items()}
    changes: dict[str, list[Entry]] = {}
    for erasure in erasures:
        check_fits(erasure, family, shapes)
        for key, entry in erasure.entries.items():
            files.dtype(own[key])  # says so when the weight is quantised
            changes.setdefault(own[key], []).append(entry)
    earlier = records.merged(files.metadata, model)
    said = [*earlier, *(_said(erasure, strength) for erasure in erasures)]
    titles = [files.metadata.get("modelspec.merged_from") or files.metadata.get("modelspec.title") or model.stem]
    metadata = model_spec.without_hashes(files.metadata) | {
        records.MERGED: json.dumps([one.model_dump() for one in said]),
        "modelspec.merged_from": ", ".join([*titles, *(one.title for one in said[len(earlier) :])]),
    }
    _write(model, files, changes, strength, metadata, out)
    return len(changes)


def _said(erasure: Erasure, strength: float) -> records.MergedErasure:
    title = erasure.facts.get("modelspec.title", "an erasure without a title")
    return records.MergedErasure(title=title, hash=erasure.hash(), strength=strength)


def _write(
    model: Path,
    files: TensorFiles,
    changes: Mapping[str, list[Entry]],
    strength: float,
    metadata: Mapping[str, str],
    out: Path,
) -> None:
    with model.open("rb") as source, replacing(out) as target:
        header = source.read(LENGTH.unpack(source.read(LENGTH.size))[0])
        told = json.dumps({"__metadata__": metadata, **_tensors_in(header)}).encode("utf-8")
        told += b" " * (-len(told) % LENGTH.size)  # the numbers begin at a multiple of eight
        target.write(LENGTH.pack(len(told)) + told)
        for name, size in _places(header, model):
            if name in changes:
                source.seek(size, os.SEEK_CUR)
                target.write(_bytes(merged(files.tensor(name), changes[name], strength)))
            else:
                _copy(source, target, size)


def merged(weight: Tensor, entries: Sequence[Entry], strength: float) -> Tensor:
    """W + strength * the sum of the deltas, in W's type."""
    total = weight.float()
    for entry in entries:
        total = total + strength * entry.delta()
    return total.to(weight.dtype)


def _tensors_in(header: bytes) -> dict[str, Any]:
    """What a header says of its tensors; their places are counted from its end, so that it may grow."""
    facts: dict[str, Any] = json.loads(header)
    facts.pop("__metadata__", None)
    return facts


def _places(header: bytes, model: Path) -> Iterator[tuple[str, int]]:
    """Every tensor's name and size in bytes, in the order of the file; FileFormatError where there are gaps."""
    at = 0
    for name, fact in sorted(_tensors_in(header).items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = fact["data_offsets"]
        if begin != at:
            raise FileFormatError(f"{model} has a gap before {name}: it is no file that safetensors writes")
        yield name, end - begin
        at = end


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        part = source.read(min(CHUNK, size))
        target.write(part)
        size -= len(part)
