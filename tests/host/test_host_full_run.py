"""Full erasings by the node: the figures of the engine's own run within their intervals, and two concepts at once.

The figures go to out/benchmarks/host_full_run.json: docs/nodes.md quotes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graphs
import pytest
from graphs import node
from host_client import Client
from test_host_train import KPOP, TRAIN, files

from eraser_core.erasing import configure, erase
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.evaluation.metrics.objects import Rate, esr, psr
from eraser_core.evaluation.pocket.tasks import Task, object_task
from eraser_core.hidden_prompt import HiddenPrompt, load_prompts
from eraser_core.methods import method
from eraser_core.models import Model, open_model

PICTURES = 40  # a figure
OUT = Path(__file__).resolve().parents[2] / "out" / "benchmarks" / "host_full_run.json"
Figures = dict[str, Rate]


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket")


def run_node(host: Client, **values: Any) -> tuple[Erasure, list[HiddenPrompt]]:
    """What one run of the training node saves."""
    before = files(host, "loras")
    inputs = {**TRAIN, "batch": 0, "method": ["kpop", 0], **values}
    prompt = graphs.checkpoint() | {
        "kpop": node("ConceptEraser_KPOPSettings", **{**KPOP, "eta": -1.0, "latents": "pool"}),
        "train": node("ConceptEraser_TrainConceptEraser", **inputs),
    }
    host.run(prompt, seconds=4 * 3600)
    (name,) = files(host, "loras") - before
    return load_erasure(host.base / "output" / "loras" / name), load_prompts(
        host.base / "output" / "hidden_prompts" / name
    )[0]


def task_for(model: Model, concept: str, **words: Any) -> Task:
    return object_task(model.concepts, model.denoiser, concept, n=PICTURES, **words)


def write(name: str, rows: dict[str, Figures]) -> None:
    """Keep a test's figures, with their intervals, n and seed."""
    OUT.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(OUT.read_text(encoding="utf-8")) if OUT.is_file() else {}
    kept[name] = {
        who: {column: {"value": r.value, "interval": r.interval()} for column, r in found.items()}
        for who, found in rows.items()
    } | {"n": PICTURES, "suite_seed": 0, "seed": 0, "key_seed": TRAIN["key_seed"]}
    OUT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def overlap(one: Rate, two: Rate) -> bool:
    (a, b), (c, d) = one.interval(), two.interval()
    return a <= d and c <= b


@pytest.mark.slow
def test_the_node_and_the_engine_erase_alike(host: Client, model: Model) -> None:
    erasure, prompts = run_node(host, anchor="castle", steps=0)
    kpop, task = method("kpop"), object_task(model.concepts, model.denoiser, "church", anchor="castle", n=1)
    engine = erase(
        model.denoiser, task.request, kpop, configure(kpop, "pocket", task.request, {}), key_seed=TRAIN["key_seed"]
    )
    assert erasure.facts["erasure.request"] == engine.erasure.facts["erasure.request"]
    assert erasure.facts["erasure.settings"] == engine.erasure.facts["erasure.settings"]
    asked, ask = task_for(model, "church", anchor="castle").sheets, model.examiner.ranks
    rows: dict[str, Figures] = {
        "untouched": {"esr1": esr(ask(asked["erased"])), "psr1": psr(ask(asked["kept"]))},
    }
    for who, made, hidden in (("node", erasure, prompts[0]), ("engine", engine.erasure, engine.prompts[0])):
        edit = made.as_edit()
        rows[who] = {
            "esr1": esr(ask(asked["erased"], edit)),
            "psr1": psr(ask(asked["kept"], edit)),
            "recovery1": psr(ask(asked["erased"], edit, hidden)),
        }
    write("church", rows)
    for column, rate in rows["node"].items():
        assert overlap(rate, rows["engine"][column]), (column, rows)
    for who in ("node", "engine"):  # and they say something: of the untouched model it would not hold
        assert rows[who]["esr1"].value > 0.8 and not overlap(rows[who]["esr1"], rows["untouched"]["esr1"])
        assert not overlap(rows[who]["recovery1"], but(rows[who]["esr1"]))


def but(rate: Rate) -> Rate:
    """The share of the others."""
    return Rate(rate.n - rate.hits, rate.n)


@pytest.mark.slow
def test_two_concepts_in_one_run_each_recover_their_own_concept_only(host: Client, model: Model) -> None:
    erasure, prompts = run_node(host, concepts="church\nguitar", anchor="castle\nviolin", steps=300)
    names, anchors = ("church", "guitar"), ("castle", "violin")
    assert [p.concept for p in prompts] == ["a church", "a guitar"]
    rows, edit, ask = dict[str, Figures](), erasure.as_edit(), model.examiner.ranks
    for i, name in enumerate(names):
        asked = task_for(model, name, anchor=anchors[i], erased_too=[names[1 - i]]).sheets["erased"]
        rows[name] = {
            "esr1": esr(ask(asked, edit)),
            "recovery1": psr(ask(asked, edit, prompts[i])),
            "recovery1_with_the_other": psr(ask(asked, edit, prompts[1 - i])),
        }
    write("two concepts", rows)
    for found in rows.values():
        assert found["esr1"].value > 0.8, rows
        assert found["recovery1"].value > found["recovery1_with_the_other"].value + 0.3, rows
        assert not overlap(found["recovery1"], found["recovery1_with_the_other"]), rows
