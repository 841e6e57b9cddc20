"""Weights on disk, opened by their headers: a checkpoint of gigabytes is known before a single number is read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import FileFormatError, ModelError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
PICKLES = {".ckpt", ".pt", ".pth", ".bin", ".pkl"}


class TensorFiles:
    """The tensors of one or several safetensors files under one roof: names, shapes and types at once, numbers on demand.

    Raises FileFormatError for a file that is missing, cut short, a pickle or no safetensors file.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = tuple(paths)
        self.metadata: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, str] = {}
        self._where: dict[str, Any] = {}
        self._open = ExitStack()
        for path in self.paths:
            self._add(path)

    def _add(self, path: Path) -> None:
        check_is_safetensors(path)
        try:
            file = self._open.enter_context(safe_open(path, framework="pt"))
            self.metadata |= dict(file.metadata() or {})
            for name in file.keys():  # noqa: SIM118 (safe_open is no dict)
                part = file.get_slice(name)
                self.shapes[name], self._types[name] = tuple(part.get_shape()), str(part.get_dtype())
                self._where[name] = file
        except (SafetensorError, OSError) as error:
            raise FileFormatError(f"{path} is not a whole safetensors file ({error}): fetch it again") from error

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    @property
    def place(self) -> str:
        """The file, or the folder of several, for messages."""
        return str(self.paths[0] if len(self.paths) == 1 else self.paths[0].parent)

    def tensor(self, name: str) -> Tensor:
        """One tensor as it is stored, on the CPU; ModelError when it is not there."""
        if name not in self._where:
            raise ModelError(f"{self.place} lacks {name}: it is cut short or of another architecture")
        return self._where[name].get_tensor(name)

    def dtype(self, name: str) -> torch.dtype:
        """Its precision on disk; ModelError when it is quantised."""
        if self._types[name] not in DTYPES:
            raise ModelError(
                f"{self.place} holds quantised weights ({name} is {self._types[name]}): give the fp16, bf16 or fp32 "
                "version of the model"
            )
        return DTYPES[self._types[name]]


def check_is_safetensors(path: Path) -> None:
    """FileFormatError for a missing file and for a pickle, by its name or its first bytes: those are never opened."""
    if not path.is_file():
        raise FileFormatError(f"there is no file {path}: check the path")
    with path.open("rb") as file:
        head = file.read(4)
    if path.suffix.lower() in PICKLES or head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        raise FileFormatError(
            f"{path} is a pickle checkpoint, which can run code when it is opened: convert it to .safetensors, or fetch "
            "the model's .safetensors file"
        )
