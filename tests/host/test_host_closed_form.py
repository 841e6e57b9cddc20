"""Erase Concepts (closed form): what the engine solves, on the host's MODEL, without moving its UNet."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import graphs
import numpy as np
import pytest
import torch
from graphs import node
from host_client import Client, QueueError
from test_host_train import KPOP, files

from eraser_core.backends.pocket import load_pocket_denoiser
from eraser_core.erasing import configure, erase
from eraser_core.erasure import load_erasure
from eraser_core.evaluation.metrics.objects import esr
from eraser_core.evaluation.pocket.tasks import object_task
from eraser_core.methods import method
from eraser_core.models import open_model
from eraser_core.pocket import load_concepts

SOLVE = {
    "model": ["ckpt", 0],
    "clip": ["ckpt", 1],
    "concepts": "church",
    "anchor": "castle",
    "retain": "",
    "method": "UCE",
    "precision": "fp16",
    "filename_prefix": "loras/solved",
}
METHODS = {
    "UCE": ("uce", {}),
    "UCE (current)": ("uce", {"preset": "current"}),
    "UCE (paper)": ("uce", {"preset": "paper"}),
    "TIME": ("time", {}),
    "Double Projections": ("dp", {}),
}


def solving(**values: Any) -> graphs.Prompt:
    return graphs.checkpoint() | {"solve": node("ConceptEraser_EraseClosedForm", **{**SOLVE, **values})}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_saves_the_engines_erasure_and_hands_it_on(host: Client, name: str) -> None:
    before = files(host, "loras"), files(host, "hidden_prompts")
    prompt = solving(method=name) | graphs.picture("original", "a church")
    prompt |= graphs.picture("sanitized", "a church", ["solve", 0])
    prompt |= {"lora": graphs.core_lora(["solve", 2])}
    prompt |= graphs.picture("core", "a church", ["lora", 0])
    apply = {"model": ["ckpt", 0], "erasure_name": "(from the socket)", "strength": 1.0, "erasure": ["solve", 1]}
    prompt |= {"apply": node("ConceptEraser_ApplySanitizedUNet", **apply)}
    prompt |= graphs.picture("applied", "a church", ["apply", 0])
    outputs = host.run(prompt)
    drawn = {n: host.images(outputs, n)[0] for n in ("original", "sanitized", "core", "applied")}
    assert not np.array_equal(drawn["original"], drawn["sanitized"])
    assert np.array_equal(drawn["core"], drawn["sanitized"]) and np.array_equal(drawn["applied"], drawn["sanitized"])
    (saved,) = files(host, "loras") - before[0]
    assert files(host, "hidden_prompts") == before[1]
    ours = load_erasure(host.base / "output" / "loras" / saved)
    theirs = engines(name)
    assert ours.entries.keys() == theirs.entries.keys()
    for key, entry in theirs.entries.items():
        assert float((ours.entries[key].delta() - entry.delta()).norm() / entry.delta().norm()) < 1e-2, key
    for fact in ("erasure.targets", "erasure.anchor", "erasure.retain", "erasure.settings", "erasure.method"):
        assert ours.facts[fact] == theirs.facts[fact]


def engines(name: str) -> Any:
    chosen, values = METHODS[name]
    denoiser = load_pocket_denoiser()
    request = object_task(load_concepts(), denoiser, "church", anchor="castle", n=1).request
    settings = configure(method(chosen), "pocket", request, values)
    return erase(denoiser, request, method(chosen), settings).erasure


def test_the_church_is_gone_and_was_there_before(host: Client) -> None:
    before = files(host, "loras")
    host.run(solving())
    (name,) = files(host, "loras") - before
    model = open_model("pocket")
    questions = object_task(model.concepts, model.denoiser, "church", anchor="castle", n=12).sheets["erased"]
    edit = load_erasure(host.base / "output" / "loras" / name).as_edit()
    assert esr(model.examiner.ranks(questions)).value < 0.3
    assert esr(model.examiner.ranks(questions, edit)).value > 0.7


def test_settings_win_over_the_method_and_a_trained_method_is_refused_in_words(host: Client) -> None:
    before = files(host, "loras")
    prompt = solving(method="UCE", settings=["set", 0])
    prompt["set"] = node("ConceptEraser_TIMESettings", layers="v", lambda_=0.2)
    host.run(prompt)
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    assert json.loads(erasure.facts["erasure.settings"]) == {"layers": "v", "lambda": 0.2, "overshoot": 0.0}
    assert all(".to_v." in key for key in erasure.entries)
    prompt["set"] = node("ConceptEraser_KPOPSettings", **KPOP)
    with pytest.raises(QueueError, match=r"KPOP has no closed form, it is trained: .* UCE, TIME, DP"):
        host.run(prompt)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"concepts": " "}, "the box 'concepts' is empty"),
        ({"concepts": "zeppelin"}, "draws no 'zeppelin'"),
        ({"anchor": "church"}, "is the concept itself"),
        ({"retain": "church"}, "to erase"),
        ({"filename_prefix": "../outside"}, "leads out of"),
    ],
)
def test_bad_input_is_said_in_words_and_leaves_no_file(host: Client, values: dict[str, Any], said: str) -> None:
    before = files(host, "loras")
    with pytest.raises(QueueError, match=said):
        host.run(solving(**values))
    assert files(host, "loras") == before


def test_a_lora_on_the_model_belongs_to_what_is_edited_and_the_unet_is_not_copied(
    comfy: ModuleType, pack: ModuleType
) -> None:
    from concept_eraser_pack.nodes.host import model as host_model
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    with torch.inference_mode():
        model, clip, _ = comfy.CheckpointLoaderSimple().load_checkpoint(graphs.POCKET)
    plain = host_model.patched_weights(model, "xattn-kv")
    key = next(iter(plain))
    patched = model.clone()
    patched.add_patches({key: ("diff", (torch.full(plain[key].shape, 0.1),))}, 0.5)
    with torch.inference_mode(False), torch.no_grad():
        denoiser = UnloadedDenoiser(patched, clip)
        found = denoiser.weights("xattn-kv")
        erasure = erase(denoiser, church(denoiser), method("uce"), method("uce").settings()).erasure
    torch.testing.assert_close(found[key], plain[key] + 0.05)
    others = [k for k in plain if k != key]
    assert others and all(torch.equal(found[k], plain[k]) for k in others)
    assert erasure.entries.keys() == plain.keys()
    assert denoiser.rows.no_grad == denoiser.rows.grad == 0
    assert "_patcher" not in vars(denoiser)


def church(denoiser: Any) -> Any:
    return object_task(load_concepts(), denoiser, "church", anchor="castle", n=1).request
