"""Seeded damage to files: what a download, a disk, another program or a bad joke makes of them."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

LENGTH = struct.Struct("<Q")  # of a safetensors header, before it
ODD: tuple[Any, ...] = (None, -1, 0, 7, 1e308, "", "x", "\u0000", [], [[]], {}, {"a": 1}, True, "NaN", "[" * 50, 10**30)
NOT_FINITE = (b"\x00\x7e", b"\x00\x7c", b"\x00\xfc")  # fp16's NaN and infinities


def mutate(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    """(what was done, the damaged file); a JSON file or a safetensors one."""
    kinds = [_flip, _cut, _noise, _insert]
    # A safetensors header of 0x..7b bytes begins with the same byte, but its length has zeros in it.
    if whole[:1] == b"{" and b"\0" not in whole[: LENGTH.size]:
        return _json(whole, rng) if rng.random() < 0.6 else rng.choice(kinds)(whole, rng)
    header = [_metadata, _metadata, _metadata, _shape, _type, _rename, _drop, _values]
    return rng.choice([*kinds, *header])(whole, rng)


def without_hash(whole: bytes) -> bytes:
    """The same file as a program that names no hash writes it: damage that the hash would show must be seen otherwise."""
    header, body = _parts(whole)
    header["__metadata__"] = {
        k: v for k, v in header["__metadata__"].items() if "hash" not in k or "base" in k or "erasure_hash" in k
    }
    return _whole(header, body)


def _parts(whole: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = LENGTH.unpack(whole[:8])
    return json.loads(whole[8 : 8 + length]), whole[8 + length :]


def _whole(header: dict[str, Any], body: bytes) -> bytes:
    said = json.dumps(header).encode("utf-8")
    return LENGTH.pack(len(said)) + said + body


def _flip(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    data, at = bytearray(whole), rng.randrange(len(whole))
    data[at] ^= 1 << rng.randrange(8)
    return f"bit of byte {at} flipped", bytes(data)


def _cut(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    at = rng.randrange(len(whole))
    return f"cut at byte {at}", whole[:at]


def _noise(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    data, at = bytearray(whole), rng.randrange(len(whole))
    data[at : at + 16] = rng.randbytes(16)
    return f"noise at byte {at}", bytes(data)


def _insert(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    at = rng.randrange(len(whole))
    return f"bytes inserted at {at}", whole[:at] + rng.randbytes(rng.randint(1, 9)) + whole[at:]


def _values(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    header, body = _parts(whole)
    data, at = bytearray(body), rng.randrange(len(body) // 2) * 2
    data[at : at + 2] = rng.choice(NOT_FINITE)
    return f"a number that is not finite at {at}", _whole(header, bytes(data))


def _metadata(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    header, body = _parts(whole)
    said = header["__metadata__"]
    name = rng.choice(sorted(said))
    how = rng.randrange(4)
    if how == 0:
        said.pop(name)
    elif how == 1:
        said[name] = rng.choice([str(value) for value in ODD])
    elif how == 2:
        said[name] = json.dumps(rng.choice(ODD))
    else:
        try:
            said[name] = json.dumps(_changed(json.loads(said[name]), rng))
        except ValueError:
            said[name] = said[name][::-1]
    return f"metadata {name}: {said.get(name, 'dropped')[:60]}", _whole(header, body)


def _tensor(header: dict[str, Any], rng: random.Random) -> str:
    return rng.choice(sorted(name for name in header if name != "__metadata__"))


def _shape(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    header, body = _parts(whole)
    name = _tensor(header, rng)
    shape = header[name]["shape"]
    count = 1
    for side in shape:
        count *= side
    header[name]["shape"] = rng.choice(
        [[count], [1, count], [count, 1], shape[::-1], [*shape, 1], [0], [], [1, 1, count], [1 << 60]]
    )
    return f"{name}: shape {header[name]['shape']} for {shape}", _whole(header, body)


def _type(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    header, body = _parts(whole)
    name = _tensor(header, rng)
    header[name]["dtype"] = rng.choice(["I16", "BF16", "U16", "F16", "I32", "F32", "BOOL", "X"])
    return f"{name}: type {header[name]['dtype']}", _whole(header, body)


def _rename(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    header, body = _parts(whole)
    name = _tensor(header, rng)
    new = rng.choice([name + "x", "", "prompt.7", name.replace("to_k", "to_q"), name.rpartition(".")[0]])
    header[new] = header.pop(name)
    return f"{name} renamed to {new!r}", _whole(header, body)


def _drop(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    header, body = _parts(whole)
    name = _tensor(header, rng)
    begin, end = header.pop(name)["data_offsets"]
    for fact in header.values():
        if "data_offsets" in fact and fact["data_offsets"][0] >= end:
            fact["data_offsets"] = [at - (end - begin) for at in fact["data_offsets"]]
    return f"{name} dropped", _whole(header, body[:begin] + body[end:])


def _json(whole: bytes, rng: random.Random) -> tuple[str, bytes]:
    value = _changed(json.loads(whole), rng)
    return "a value of the JSON changed", json.dumps(value).encode("utf-8")


def _changed(value: Any, rng: random.Random) -> Any:
    """The value with one thing in it, at a random depth, replaced or left out."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(sorted(value))
        if rng.random() < 0.2:
            return {k: v for k, v in value.items() if k != name}
        return {**value, name: _changed(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        return [*value[:i], _changed(value[i], rng), *value[i + 1 :]]
    return rng.choice(ODD)
