"""A training that is cancelled: quickly, with previews until then, without a file, with a usable model."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import graphs
import numpy as np
import pytest
import websocket
from host_client import Client, QueueError
from test_host_train import files, training


def listen(host: Client, until: str, seconds: float = 120) -> list[Any]:
    """Messages of the server to this client, (type, data) or ("preview", bytes), up to the first of type `until`."""
    found: list[Any] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        raw = socket_of(host).recv()
        if isinstance(raw, bytes):
            kind = struct.unpack(">I", raw[:4])[0]
            found.append({1: ("preview", raw), 3: ("text", raw)}.get(kind, ("binary", raw)))
        else:
            message = json.loads(raw)
            found.append((message["type"], message["data"]))
        if found[-1][0] == until:
            return found
    raise TimeoutError(f"no message of type {until!r}")


_sockets: dict[str, websocket.WebSocket] = {}


def socket_of(host: Client) -> websocket.WebSocket:
    if host.id not in _sockets:
        address = host.url.replace("http", "ws") + f"/ws?clientId={host.id}"
        _sockets[host.id] = websocket.create_connection(address, timeout=60)
    return _sockets[host.id]


def test_progress_previews_and_words_arrive_and_cancel_takes_under_two_seconds(host: Client) -> None:
    socket_of(host)
    before = files(host, "loras") | files(host, "hidden_prompts")
    plain = graphs.checkpoint() | graphs.picture("plain", "a church")
    picture = host.images(host.run(plain), "plain")[0]
    prompt_id = host.submit(training(vae=["ckpt", 2], steps=32, batch=1))
    until_preview = listen(host, "preview")
    words = b"".join(raw for kind, raw in until_preview if kind == "text")
    assert b"a church -> a castle: 32 steps, needs about" in words
    begin = time.monotonic()
    host.post("/interrupt", {})
    with pytest.raises(QueueError, match="interrupted"):
        host.wait(prompt_id)
    assert time.monotonic() - begin < 2
    assert files(host, "loras") | files(host, "hidden_prompts") == before
    again = graphs.checkpoint() | graphs.picture("plain again", "a church")
    assert np.array_equal(host.images(host.run(again), "plain again")[0], picture)
