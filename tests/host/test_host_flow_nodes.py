"""The training and closed-form nodes on the flow-matching pocket model, on the running server."""

from __future__ import annotations

import json

import graphs
import numpy as np
from graphs import node
from host_client import Client
from test_host_closed_form import solving
from test_host_train import files, training

from eraser_core.erasure import load_erasure

FLOW = graphs.checkpoint("pocket_flow.safetensors")
DOOR = "diffusion_model.cap_embedder.1.weight"


def test_kpop_trains_saves_and_its_hidden_prompt_is_injected(host: Client) -> None:
    before = files(host, "loras")
    prompt = training(filename_prefix="loras/flow") | FLOW
    for name, model in (("original", "ckpt"), ("sanitized", "train")):
        prompt |= graphs.picture(name, "a church", [model, 0])
    inject = {"positive": ["sanitized.pos", 0], "negative": ["sanitized.neg", 0], "prompt_name": "(from the socket)"}
    inject |= {"concept": "church", "hidden_prompt": ["train", 2], "strength": 1.0}
    prompt |= {"inject": node("ConceptEraser_HiddenPromptInject", **inject)}
    prompt |= graphs.picture("recovered", "a church", ["train", 0], positive=["inject", 0], negative=["inject", 1])
    outputs = host.run(prompt)
    drawn = [host.images(outputs, name)[0].astype(int) for name in ("original", "sanitized", "recovered")]
    assert all(np.abs(a - b).max() > 5 for a, b in zip(drawn, [*drawn[1:], drawn[0]], strict=True))
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    assert erasure.family == "pocket-flow" and list(erasure.entries) == [DOOR]
    assert json.loads(erasure.facts["erasure.targets"]) == ["a church"]


def test_a_closed_form_is_handed_on_saved_and_read_by_the_stock_loader(host: Client) -> None:
    before = files(host, "loras")
    prompt = solving(filename_prefix="loras/flow_solved") | FLOW
    prompt |= {"lora": graphs.core_lora(["solve", 2])}
    for name, model in (("original", "ckpt"), ("solved", "solve"), ("core", "lora")):
        prompt |= graphs.picture(name, "a church", [model, 0])
    outputs = host.run(prompt)
    original, solved, core = (host.images(outputs, n)[0].astype(int) for n in ("original", "solved", "core"))
    assert np.array_equal(solved, core)
    assert np.abs(solved - original).max() > 20
    (name,) = files(host, "loras") - before
    assert load_erasure(host.base / "output" / "loras" / name).family == "pocket-flow"
