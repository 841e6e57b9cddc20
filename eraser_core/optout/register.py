"""A register of opt-outs: `optouts.csv` or `optouts.json`, as typed values. docs/opting_out.md holds the schema."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import FileFormatError, RequestError

EXAMPLE = 'a CSV file with the line "name,kind,anchor" on top, or a JSON list of {"name": ...}'
SHOWN = 10  # letters of a hash in messages and pages


class Entry(BaseModel):
    """One opt-out: a name, or the salted hash of one, and what the register says of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    name: str = ""
    name_hash: str = Field("", pattern="^([0-9a-f]{64})?$")
    salt: str = ""
    kind: Literal["style", "object", "scene", "identity"] = "style"
    synonyms: tuple[str, ...] = ()
    anchor: str | None = None
    basis: str = ""
    source: str = ""
    date: str = Field("", pattern=r"^(\d{4}-\d{2}-\d{2})?$")
    scope: str = ""

    @field_validator("synonyms", mode="before")
    @classmethod
    def _parted(cls, value: Any) -> Any:
        """A cell of a table has its synonyms between bars."""
        return tuple(part.strip() for part in value.split("|") if part.strip()) if isinstance(value, str) else value

    @field_validator("anchor", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _named_once(self) -> Entry:
        if bool(self.name) == bool(self.name_hash):
            raise ValueError("an entry has a name or a name_hash, one of the two")
        if self.name_hash and not self.salt:
            raise ValueError("a name_hash needs the salt that it was made with")
        return self

    @property
    def label(self) -> str:
        """The name, or what stands for it where the register does not say it."""
        return self.name or f"sha256:{self.name_hash[:SHOWN]}"


@dataclass(frozen=True)
class Register:
    """The entries of a file in their order, and the SHA-256 of the file."""

    entries: tuple[Entry, ...]
    digest: str


def hashed(name: str, salt: str) -> str:
    """What stands for a name that the register does not say: SHA-256 over salt, a colon, and the name in lower case."""
    return hashlib.sha256(f"{salt}:{_plain(name)}".encode()).hexdigest()


def _plain(name: str) -> str:
    return " ".join(name.lower().split())


def read_register(path: Path) -> Register:
    """The register in a .csv or .json file, UTF-8.

    FileFormatError names the entry that is wrong; RequestError where the list is empty or says a name twice.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read as UTF-8 text ({error}): a register is {EXAMPLE}") from error
    rows = _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    entries = tuple(_entry(path, place, row) for place, row in rows)
    if not entries:
        raise RequestError(f"{path} holds no opt-out: a register is {EXAMPLE}")
    _check_twice(path, entries)
    return Register(entries, hashlib.sha256(data).hexdigest())


def _csv_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    unknown = set(reader.fieldnames or ()) - set(Entry.model_fields)
    if unknown or not {"name", "name_hash"} & set(reader.fieldnames or ()):
        raise FileFormatError(
            f"{path}: its first line names the columns, of {', '.join(Entry.model_fields)}. "
            + (f"It has {', '.join(sorted(map(str, unknown)))}" if unknown else "It has neither name nor name_hash")
        )
    try:
        rows = [(f"line {reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise FileFormatError(f"{path}, line {reader.line_num}: {error}; check the quotes there") from error
    for place, row in rows:
        if None in row or None in row.values():
            raise FileFormatError(f"{path}, {place}: it has more or fewer cells than the first line; quote commas")
    return [(place, row) for place, row in rows if any(row.values())]


def _json_rows(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path} is not JSON ({error}): a register is {EXAMPLE}") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise FileFormatError(f"{path} holds no list of entries: a register is {EXAMPLE}")
    return [(f"entry {i}", one) for i, one in enumerate(found, 1)]


def _entry(path: Path, place: str, row: Mapping[str, Any]) -> Entry:
    try:
        return Entry.model_validate(dict(row))
    except ValidationError as error:
        first = error.errors()[0]
        where = f" ({first['loc'][0]})" if first["loc"] else ""
        raise FileFormatError(f"{path}, {place}{where}: {first['msg'].removeprefix('Value error, ')}") from error


def _check_twice(path: Path, entries: Sequence[Entry]) -> None:
    seen: dict[str, Entry] = {}
    for entry in entries:
        phrases = [entry.name_hash] if entry.name_hash else [_plain(p) for p in (entry.name, *entry.synonyms)]
        for phrase in phrases:
            other = seen.setdefault(phrase, entry)
            if other is not entry:
                raise RequestError(f"{path} names {phrase!r} twice ({other.label}, {entry.label}): name it once")


@dataclass(frozen=True)
class Named:
    """Entries with the names that they stand for, and why the others are left out, by label."""

    known: tuple[tuple[Entry, str], ...]
    left_out: Mapping[str, str]


def named(register: Register, candidates: Sequence[str], identities: bool) -> Named:
    """Which names the entries stand for: hashes are compared with those of the `candidates`.

    Names of people are taken with `identities` alone.
    """
    known: list[tuple[Entry, str]] = []
    left_out: dict[str, str] = {}
    by_salt: dict[str, dict[str, str]] = {}
    for entry in register.entries:
        if entry.kind == "identity" and not identities:
            left_out[entry.label] = "a person: say --identities to erase people"
            continue
        name = entry.name
        if not name:
            hashes = by_salt.setdefault(entry.salt, {hashed(word, entry.salt): word for word in candidates})
            name = hashes.get(entry.name_hash, "")
        if not name:
            left_out[entry.label] = "a hash, and none of the names in --names gives it"
            continue
        known.append((entry, name))
    return Named(tuple(known), left_out)
