"""What a file says of itself, as typed values: metadata from outside become known things here and nowhere else.

A file may come from anybody. Each record states what its file must say; `read` raises FileFormatError that names the
file, the entry that is wrong and what to do. Numbers inside tensors are looked at by `finite`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, Json, ValidationError, model_validator
from torch import Tensor

from .errors import FileFormatError
from .files import tensors_hash
from .request import Request

log = logging.getLogger(__name__)

AGAIN = "fetch it again"
MERGED = "erasure.merged"  # of a checkpoint: which erasures are in it
LARGEST = torch.finfo(torch.float16).max  # of a number in a shared file: half precision could not hold a larger one
MOST_TOKENS = 4096  # of a chunk and of a hidden prompt: far beyond any text encoder's
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Record(BaseModel):
    """What one kind of file must say. Further entries are allowed: other programs add theirs."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


AnyRecord = TypeVar("AnyRecord", bound=Record)


class OptOutRecord(Record):
    """The value of `erasure.optout`: hashes of a register and of its request, and how many of its names are erased."""

    register_hash: str
    request: str
    names: int
    left_out: int
    verified: bool


class ErasureRecord(Record):
    """The `erasure.*` entries of an erasure's metadata; how it came about may be left out, but not be wrong."""

    model_config = ConfigDict(alias_generator=lambda name: f"erasure.{name}")

    keys: Json[dict[Text, Text]]
    family: Text
    base_hash: str
    method: str = ""
    targets: Json[tuple[str, ...]] = ()
    anchor: Json[tuple[str, ...]] = ()
    retain: Json[tuple[str, ...]] = ()
    request: Json[Request] | None = None
    settings: Json[dict[str, Any]] | None = None
    optout: Json[OptOutRecord] | None = None
    tensors_hash: str | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> ErasureRecord:
        asked = self.request
        if asked is not None and (self.targets, self.anchor, self.retain) != (
            tuple(t.concept for t in asked.targets),
            tuple(t.anchor for t in asked.targets),
            asked.retain,
        ):
            raise ValueError("targets, anchor and retain are not those of its request")
        return self


class PromptRecord(Record):
    """The `hidden_prompt.*` entries of a hidden prompt's metadata."""

    model_config = ConfigDict(alias_generator=lambda name: f"hidden_prompt.{name}")

    concepts: Json[Annotated[tuple[Text, ...], Field(min_length=1)]]
    mechanism: Literal["concatenative", "additive"]
    tokens_per_chunk: int = Field(ge=0, le=MOST_TOKENS)
    key_seed: int
    erasure_hash: str
    tensors_hash: str | None = None


class CheckpointRecord(Record):
    """The facts of an interrupted run."""

    method: Text
    request: Request
    settings: dict[str, Any]
    family: Text
    base_hash: str
    dtype: Literal["float16", "bfloat16", "float32"]
    key_seed: int | None
    losses: tuple[dict[str, Number], ...]


class RunRecord(Record):
    """The arguments of an interrupted run, as the command line gives them; further ones are settings of its method."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, str | None]

    model: Text = "pocket"
    prediction: Literal["epsilon", "v"] | None = None
    zero_snr: bool | None = None
    compute: Literal["auto", "fp16", "bf16", "fp32"] = "auto"
    memory: Literal["normal", "low"] = "normal"
    size: int | None = None
    tokenizer: str | None = None
    allow_download: bool = False
    guidance_scale: Number | None = None
    steps: int | None = None
    suite_seed: int = 0
    concept: list[str] | None = None
    anchor: list[str] | None = None
    retain: list[str] | None = None
    kind: Literal["auto", "object", "style", "scene"] = "auto"
    method: str = "kpop"
    seed: int = 0
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    images: int = 0
    no_check: bool = False
    replaces: list[str] = []


class MergedErasure(Record):
    """One erasure that was worked into a checkpoint."""

    title: str
    hash: str
    strength: Number


class MergedRecord(Record):
    """What a checkpoint says of the erasures in it."""

    merged: Json[tuple[MergedErasure, ...]] = Field(default=(), alias="erasure.merged")


class CellRecord(Record):
    text: str


class RowRecord(Record):
    name: str
    cells: dict[str, CellRecord]
    quoted: bool = False


class TableRecord(Record):
    title: str
    columns: tuple[str, ...]
    rows: tuple[RowRecord, ...]
    note: str = ""


class SuiteRecord(Record):
    tables: tuple[TableRecord, ...]
    grid: str | None = None
    verdict: str = ""  # of an audit


class SidecarRecord(Record):
    """An erasure's figures: `NAME.evaluation.json`."""

    schema_: Literal["concept-eraser-evaluation-1"] = Field(alias="schema")
    erasure_hash: str
    suites: dict[Text, SuiteRecord]


class ModelPlanRecord(Record):
    batches: tuple[tuple[int, ...], ...]


class ManifestRecord(Record):
    """A suite's run: which model draws which pictures in which batches."""

    schema_: Literal["concept-eraser-suite-1"] = Field(alias="schema")
    models: dict[str, ModelPlanRecord]


def read(kind: type[AnyRecord], said: Any, path: Path, todo: str = AGAIN) -> AnyRecord:
    """The record in a file's metadata or JSON; FileFormatError names the first entry that is wrong, and `todo`."""
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its metadata"
        raise FileFormatError(f"{path} is damaged: {where} {_in_words(first)}; {todo}") from error


# pydantic's kinds of error in the words of somebody who has never heard of it
_WORDS = {
    "missing": "is missing",
    "model_type": "should hold named entries",
    "dict_type": "should hold named entries",
    "tuple_type": "should be a list",
    "string_type": "should be text",
    "list_type": "should be a list",
    "bool_type": "should be true or false",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "json_invalid": "should be JSON",
    "json_type": "should be JSON",
    "string_too_short": "is empty",
    "dataclass_type": "should hold named entries",
}


def _in_words(error: Any) -> str:
    said = str(error["msg"]).removeprefix("Value error, ")
    return _WORDS.get(error["type"], "is wrong: " + said[:1].lower() + said[1:])


def read_json(path: Path, todo: str = AGAIN) -> Any:
    """The value in a JSON file; FileFormatError when it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} cannot be read as JSON ({error}); {todo}") from error


def merged(metadata: Mapping[str, str], path: Path) -> tuple[MergedErasure, ...]:
    """The erasures that a checkpoint says it holds; most say nothing and hold none."""
    return read(MergedRecord, metadata, path).merged


def finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """FileFormatError unless every tensor holds numbers, all of them finite and no larger than LARGEST."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS or tensor.numel() == 0:
            raise FileFormatError(
                f"{path} is damaged: {name} has shape {list(tensor.shape)} and type {tensor.dtype}, floating-point "
                f"numbers were expected; {AGAIN}"
            )
        if not bool((tensor.abs() <= LARGEST).all()):
            raise FileFormatError(
                f"{path} is damaged: {name} holds numbers that are not finite, or larger than half precision holds; {AGAIN}"
            )


def same_tensors(tensors: Mapping[str, Tensor], said: str | None, path: Path) -> None:
    """FileFormatError unless the tensors have the hash that the file names; a warning where it names none."""
    if said is None:
        log.warning("%s names no hash of its tensors, so damage to it cannot be seen: another program wrote it", path)
    elif tensors_hash(tensors) != said:
        raise FileFormatError(f"{path} is damaged: its tensors do not have the hash that it names; {AGAIN}")
