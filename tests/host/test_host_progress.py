"""What Train Concept Eraser says under itself while it runs and when it is done, and that its defaults are the engine's."""

from __future__ import annotations

import json
import re
from types import ModuleType, SimpleNamespace
from typing import Any

import graphs
import pytest
from bad_nodes import GOOD, Given

from eraser_core.erasing import configure
from eraser_core.erasure import Erasure
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target

QUICK = {"pool_size": 64, "per_trajectory": 4, "sampler_steps": 8, "guidance": 1.0, "retain_weight": 0.0}


def train(comfy: ModuleType, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> tuple[list[str], Any]:
    """(what stood under the node, its output) of three steps."""
    from concept_eraser_pack.nodes.host import preview
    from concept_eraser_pack.nodes.train import TrainConceptEraser
    from concept_eraser_pack.nodes.values import MethodChoice

    said: list[str] = []
    server = SimpleNamespace(send_progress_text=lambda text, node_id: said.append(text))
    monkeypatch.setattr(preview.PromptServer, "instance", server, raising=False)
    monkeypatch.setattr(preview, "SAY_SECONDS", -1.0)
    model, clip, _ = comfy.CheckpointLoaderSimple().load_checkpoint(graphs.POCKET)
    values = {name: value for name, value in GOOD["TrainConceptEraser"].items() if not isinstance(value, Given)}
    node = TrainConceptEraser.PREPARE_CLASS_CLONE({})  # the host of 2026 wants other data than the old one
    node.hidden = SimpleNamespace(unique_id="7")
    values |= {"model": model, "clip": clip, "method": MethodChoice("kpop", QUICK), "steps": 3, **changed}
    return said, node.execute(**values)


def test_it_says_phase_step_and_time_left_and_then_every_setting(
    comfy: ModuleType, pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, output = train(comfy, monkeypatch)
    filling = [text for text in said if text.startswith("1 of 2, filling: ")]
    training = [text for text in said if text.startswith("2 of 2, training: ")]
    seen = [text for text in filling if re.search(r"filling: [1-9]\d* of 84 latents to learn from, \d+ s left", text)]
    assert seen, filling
    assert "step 3 of 3: " in training[-1]
    assert said.index(filling[-1]) < said.index(training[0])
    (text,) = output.ui["text"]
    assert said[-1] == text
    words = "iterations 3, batch 1, rank 4, eta 0.0002, pool_size 64, width 64, height 64, compute fp32, memory normal"
    assert [word for word in (*words.split(", "), "precision fp16", "seed 0") if word not in text] == []
    assert "key_seed" not in text and "dense" not in text


def test_its_file_says_the_same(comfy: ModuleType, pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from concept_eraser_pack.nodes.values import MethodChoice

    _, output = train(comfy, monkeypatch, rank=0, method=MethodChoice("kpop", QUICK | {"confine": 0.0}))
    erasure: Erasure = output.args[1]
    run = json.loads(erasure.facts["erasure.run"])
    assert (run["width"], run["memory"], run["precision"], run["seed"]) == (64, "normal", "fp16", 0)
    assert "key_seed" not in run and json.loads(erasure.facts["erasure.settings"])["iterations"] == 3
    assert "a dense change: ComfyUI loads it, diffusers' load_lora_weights does not" in output.ui["text"][0]


@pytest.mark.parametrize("family", ["pocket", "pocket-flow", "sd1", "sd2", "sdxl", "ssd1b"])
@pytest.mark.parametrize("tune", ["xattn-kv", "xattn", "noxattn", "text"])
def test_node_and_command_line_have_one_default(pack: ModuleType, family: str, tune: Any) -> None:
    from concept_eraser_pack.nodes import train_run
    from concept_eraser_pack.nodes.values import MethodChoice

    request = Request((Target("a church", "a castle"),), ("a dog",))
    values = {"steps": 0, "batch": 0, "rank": -1, "tune": tune}
    settings: Any = train_run._settings(MethodChoice("kpop"), family, request, values)
    assert settings == configure(METHODS["kpop"], family, request, {"tune": tune})
    # small and loadable everywhere; a pocket model's file is small anyway
    assert settings.rank or family.startswith("pocket")
    chosen: Any = train_run._settings(MethodChoice("kpop"), family, request, {**values, "rank": 0, "tune": "xattn"})
    assert chosen.rank == 0  # dense where it is asked for
