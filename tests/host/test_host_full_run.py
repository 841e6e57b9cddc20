"""A full erasing by the node and by the engine from the same seeds: the same figures within their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphs
import pytest
from graphs import node
from host_client import Client
from test_host_train import KPOP, TRAIN, files

from eraser_core.erase import configure, erase
from eraser_core.erasure import load_erasure
from eraser_core.evaluation.pocket import object_task, score, untouched
from eraser_core.hidden_prompt import load_prompts
from eraser_core.methods import method
from eraser_core.models import open_model

PICTURES = 48


@pytest.mark.slow
def test_the_node_and_the_engine_erase_alike(host: Client) -> None:
    before = files(host, "loras")
    inputs = TRAIN | {"anchor": "castle", "steps": 0, "batch": 0, "method": ["kpop", 0]}
    prompt = graphs.checkpoint() | {
        "kpop": node("ConceptEraser_KPOPSettings", **{**KPOP, "eta": -1.0, "latents": "pool"}),
        "train": node("ConceptEraser_TrainConceptEraser", **inputs),
    }
    host.run(prompt, seconds=1200)
    (name,) = files(host, "loras") - before
    rows = [figures(*engine_run()), figures(*node_run(host.base / "output", name))]
    for column in ("esr1", "psr1", "recovery1", "forged1"):
        assert rows[0][column] == pytest.approx(rows[1][column], abs=0.15), (column, rows)
    assert rows[0]["esr1"] > 0.8 and rows[0]["recovery1"] > rows[0]["forged1"] + 0.3


def engine_run() -> tuple[Any, Any]:
    model = open_model("pocket")
    task = object_task(model.concepts, model.denoiser, "church", anchor="castle", n=PICTURES)
    kpop = method("kpop")
    settings = configure(kpop, "pocket", task.request, {})
    result = erase(model.denoiser, task.request, kpop, settings, key_seed=7)
    return result.erasure, result.prompts[0]


def node_run(output: Path, name: str) -> tuple[Any, Any]:
    prompts, _ = load_prompts(output / "hidden_prompts" / name)
    return load_erasure(output / "loras" / name), prompts[0]


def figures(erasure: Any, prompt: Any) -> dict[str, Any]:
    model = open_model("pocket")
    task = object_task(model.concepts, model.denoiser, "church", anchor="castle", n=PICTURES)
    return score(model.examiner, task, erasure.as_edit(), prompt, None, untouched(model.examiner, task))


@pytest.mark.slow
def test_two_concepts_in_one_run_each_recover_their_own_concept_only(host: Client) -> None:
    before = files(host, "loras")
    inputs = TRAIN | {"concepts": "church\nguitar", "anchor": "castle\nviolin", "steps": 300, "batch": 0}
    prompt = graphs.checkpoint() | {
        "kpop": node("ConceptEraser_KPOPSettings", **{**KPOP, "eta": -1.0, "latents": "pool"}),
        "train": node("ConceptEraser_TrainConceptEraser", **{**inputs, "method": ["kpop", 0]}),
    }
    host.run(prompt, seconds=1800)
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    prompts, _ = load_prompts(host.base / "output" / "hidden_prompts" / name)
    model = open_model("pocket")
    for i, concept in enumerate(("church", "guitar")):
        task = object_task(
            model.concepts, model.denoiser, concept, erased_too=[("guitar", "church")[i]], anchor="", n=PICTURES
        )
        before_ = untouched(model.examiner, task)
        row = score(model.examiner, task, erasure.as_edit(), prompts[i], prompts[1 - i], before_)
        assert row["esr1"] > 0.8, row
        assert row["recovery1"] > row["forged_other1"] + 0.3, row
