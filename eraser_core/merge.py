"""A whole checkpoint with erasures worked into its weights: one tensor in memory at a time."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

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

    Names, order, types and metadata stay. The sum is formed in float32 and rounded to the type of the file once. The
    file appears whole or not at all. RequestError when an erasure does not fit, OutputError when it cannot be written.
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
    _write(model, files, changes, strength, out)
    return len(changes)


def _write(model: Path, files: TensorFiles, changes: Mapping[str, list[Entry]], strength: float, out: Path) -> None:
    with model.open("rb") as source, replacing(out) as target:
        length = source.read(LENGTH.size)
        header = source.read(LENGTH.unpack(length)[0])
        target.write(length + header)
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


def _places(header: bytes, model: Path) -> Iterator[tuple[str, int]]:
    """Every tensor's name and size in bytes, in the order of the file; FileFormatError where there are gaps."""
    facts = json.loads(header)
    facts.pop("__metadata__", None)
    at = 0
    for name, fact in sorted(facts.items(), key=lambda item: item[1]["data_offsets"]):
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
