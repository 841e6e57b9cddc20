"""Reading and writing: safetensors and JSON only, each file whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from .errors import FileFormatError, OutputError


def _owner_only(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


@contextmanager
def replacing(path: Path, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write that takes `path`'s place when all went well: whoever looks sees the old one or the new one whole.

    A `private` file can be read by its owner alone, from its first byte on (not on Windows, where folders decide that);
    so can its folder, where that is new.

    Raises OutputError when the folder cannot be written to or the disk is full; then, and when the writing raises, the
    old file stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
        with open(part, "wb", opener=_owner_only if private else None) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        hint = "free some space or choose another folder" if full else "choose a folder that you can write to"
        raise OutputError(f"cannot write {path}: {error.strerror}; {hint}") from error
    finally:
        if part.is_file():
            part.unlink()


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder and its folders."""
    _remove(folder.rglob(".*.part"))


def sweep_file(path: Path) -> None:
    """Remove what killed processes left half-written of one file."""
    _remove(path.parent.glob(f".{escape(path.name)}.*.part"))


def _remove(parts: Iterable[Path]) -> None:
    for part in parts:
        with suppress(OSError):  # in a folder that cannot be written to; the first write says so
            part.unlink()


def write_bytes(path: Path, data: bytes, private: bool = False) -> None:
    """Write a file as `replacing` does."""
    with replacing(path, private) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode("utf-8"))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], private: bool = False
) -> None:
    """Write a safetensors file, atomically; a `private` one for its owner alone."""
    data = to_bytes({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, dict(metadata))
    write_bytes(path, data, private)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, on the CPU, and its metadata; copies, so that the file may be replaced.

    Raises FileFormatError when the file is missing, cut short or not safetensors.
    """
    with _opened(path) as file:
        names = list(file.keys())
        # Windows refuses to replace or remove a file of which a view into its mapped memory is alive.
        return {name: file.get_tensor(name).clone() for name in names}, dict(file.metadata() or {})


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata alone, without reading a tensor; FileFormatError as `read_tensors`."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise FileFormatError(f"there is no file {path}: check the path")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{path} is not a whole safetensors file ({error}): fetch it again; pickle formats (.ckpt, .pt) are not read"
        ) from error


def tensors_hash(tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> str:
    """SHA-256 over names, dtypes, shapes and values (as `dtype`) in the order of the names: equal for equal tensors.

    The bytes of a file would not do: safetensors writes its metadata in random order.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", dtype).contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a safetensors file without its header, as ModelSpec's `hash_sha256` wants it."""
    data = to_bytes({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    return "0x" + hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def peak_memory() -> int | None:
    """The most memory this process has held, in bytes; None on Windows, which has no such record."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux's ru_maxrss begins at what the parent held when it started this process.
        (peak,) = [line.split()[1] for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM:")]
        return int(peak) * 1024
    try:
        import resource
    except ModuleNotFoundError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def size_said(count: int) -> str:
    """A number of bytes as people read it: "16 KB", "1.1 MB"."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} KB"
