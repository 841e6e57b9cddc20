"""What a user can get wrong on a canvas, on the running server: each message says what to do, and nothing is left behind."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import graphs
import numpy as np
import pytest
import torch
from graphs import node
from host_client import Client, QueueError
from safetensors.torch import save_file
from test_host_attribution import looking
from test_host_closed_form import SOLVE
from test_host_train import files, training

from eraser_core.erasure import load_erasure


@pytest.fixture(scope="module")
def erasure(host: Client) -> Path:
    before = files(host, "loras")
    host.run(graphs.checkpoint() | {"solve": node("ConceptEraser_EraseClosedForm", **SOLVE)})
    (name,) = files(host, "loras") - before
    return host.base / "output" / "loras" / name


def applying(name: str) -> graphs.Prompt:
    apply = {"model": ["ckpt", 0], "erasure_name": name, "strength": 1.0}
    prompt = graphs.checkpoint() | {"apply": node("ConceptEraser_ApplySanitizedUNet", **apply)}
    return prompt | graphs.picture("never", "a church", ["apply", 0])


def injecting(name: str) -> graphs.Prompt:
    inject = {"positive": ["x.pos", 0], "negative": ["x.neg", 0], "prompt_name": name, "concept": "", "strength": 1.0}
    prompt = graphs.checkpoint() | {"inject": node("ConceptEraser_HiddenPromptInject", **inject)}
    return prompt | graphs.picture("x", "a church", positive=["inject", 0], negative=["inject", 1])


def test_files_of_other_kinds_are_refused_where_an_erasure_is_wanted(host: Client, erasure: Path) -> None:
    wrong = {
        "text.safetensors": (b"a renamed text", "is not a whole safetensors file"),
        "cut.safetensors": (erasure.read_bytes()[:-100], "is not a whole safetensors file"),
        "empty.safetensors": (b"", "is not a whole safetensors file"),
    }
    for name, (content, said) in wrong.items():
        erasure.with_name(name).write_bytes(content)
        with pytest.raises(QueueError, match=said):
            host.run(applying(name))
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, erasure.with_name("lora.safetensors"))
    with pytest.raises(QueueError, match="a plain LoRA goes into a LoRA loader"):
        host.run(applying("lora.safetensors"))
    replace(load_erasure(erasure), family="sd1").save(erasure.with_name("sd1.safetensors"))
    with pytest.raises(QueueError, match=r"family 'sd1', the model given is 'pocket'"):
        host.run(applying("sd1.safetensors"))
    host.run(applying(erasure.name))  # and the right one is not


def test_files_of_other_kinds_are_refused_where_a_hidden_prompt_is_wanted(host: Client, erasure: Path) -> None:
    folder = host.base / "output" / "hidden_prompts"
    folder.mkdir(exist_ok=True)
    (folder / "erasure.safetensors").write_bytes(erasure.read_bytes())
    with pytest.raises(QueueError, match="holds no hidden prompt"):
        host.run(injecting("erasure.safetensors"))
    with pytest.raises(QueueError, match=r"there is no file 'gone\.safetensors'"):
        host.run(injecting("gone.safetensors"))
    with pytest.raises(QueueError, match="choose a hidden prompt file"):
        host.run(injecting(""))


@pytest.mark.parametrize(("kind", "name"), [("LoadErasure", "erasure_name"), ("LoadHiddenPrompt", "prompt_name")])
def test_an_empty_choice_is_said_with_where_files_belong(host: Client, kind: str, name: str) -> None:
    prompt = {"load": node(f"ConceptEraser_{kind}", **{name: ""})}
    if kind == "LoadErasure":
        prompt["out"] = node("ConceptEraser_ErasureInfo", erasure=["load", 0])
    else:
        prompt["out"] = node("ConceptEraser_SaveHiddenPrompt", hidden_prompt=["load", 0], filename_prefix="keys/x")
    with pytest.raises(QueueError, match="no file is chosen: put one into"):
        host.run(prompt)


def test_a_checkpoint_without_text_encoder_and_vae_is_said(host: Client) -> None:
    host.run(graphs.checkpoint() | {"save": node("ModelSave", model=["ckpt", 0], filename_prefix="checkpoints/unet")})
    alone = graphs.checkpoint("unet_00001_.safetensors")
    before = files(host, "loras") | files(host, "hidden_prompts")
    said = "holds no text encoder; connect Load CLIP"
    for prompt in (
        training(),
        {"solve": node("ConceptEraser_EraseClosedForm", **SOLVE)},
        looking(),
    ):
        with pytest.raises(QueueError, match=said):
            host.run(prompt | alone)
    whole = {"whole": node("CheckpointLoaderSimple", ckpt_name=graphs.POCKET)}
    with pytest.raises(QueueError, match="holds none; connect Load VAE"):
        host.run(whole | alone | looking(clip=["whole", 1]))
    with pytest.raises(QueueError, match="holds none; connect Load VAE"):
        host.run(whole | training(clip=["whole", 1], vae=["ckpt", 2]) | alone)
    assert files(host, "loras") | files(host, "hidden_prompts") == before


def test_a_cancelled_attribution_leaves_a_usable_model(host: Client) -> None:
    plain = host.images(host.run(graphs.checkpoint() | graphs.picture("plain", "a church")), "plain")[0]
    prompt_id = host.submit(graphs.checkpoint() | looking(steps=1000, batch=8, seed=11))
    while not host.get("/queue")["queue_running"]:
        time.sleep(0.1)
    time.sleep(2)
    host.post("/interrupt", {})
    with pytest.raises(QueueError, match="interrupted"):
        host.wait(prompt_id)
    again = graphs.checkpoint() | graphs.picture("again", "a church")
    assert np.array_equal(host.images(host.run(again), "again")[0], plain)


def test_pictures_of_any_size_and_channels_are_compared(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.compare import grid

    rows = [torch.zeros((1, 64, 48, 3)), torch.ones((3, 16, 80, 4)), torch.zeros((2, 1, 1, 1))]
    sheet = grid(rows, ["", "a label that is much longer than the pictures are wide", "third"])
    assert sheet.shape[0] == 1 and sheet.shape[3] == 3 and sheet.shape[1] > 3 * 64


def test_settings_out_of_range_name_the_setting(host: Client) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        (
            "UCE",
            {"preset": "current", "layers": "kv", "l": 0.0, "s_e": -1.0, "s_p": -1.0},
            "l: input should be greater",
        ),
        ("TIME", {"layers": "v", "lambda_": 0.0}, "lambda: input should be greater"),
        ("DoubleProjections", {"layers": "kv", "directions": 0, "kept_energy": -1.0}, "directions: input should be"),
        ("DoubleProjections", {"layers": "kv", "directions": -1, "kept_energy": 2.0}, "kept_energy: input should be"),
    ]
    for kind, values, said in cases:
        prompt = graphs.checkpoint() | {
            "solve": node("ConceptEraser_EraseClosedForm", **{**SOLVE, "settings": ["set", 0]})
        }
        prompt["set"] = node(f"ConceptEraser_{kind}Settings", **values)
        with pytest.raises(QueueError, match=said):
            host.run(prompt)


def test_messages_speak_of_boxes_not_of_the_command_line(host: Client) -> None:
    """Every message of the training node for a wrong word, as a user reads it."""
    for values in ({"concepts": ""}, {"concepts": "zeppelin"}, {"retain": "zeppelin"}, {"anchor": "zeppelin"}):
        with pytest.raises(QueueError) as error:
            host.run(training(**values))
        assert "--" not in error.value.message and "python" not in error.value.message, error.value.message
