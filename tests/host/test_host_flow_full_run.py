"""The flow-matching pocket model, erased and drawn in ComfyUI and in the engine from the same seeds: the same verdicts.

The figures go to out/benchmarks/host_full_run.json: docs/results/pocket_flow.md quotes them.
"""

from __future__ import annotations

from collections.abc import Sequence

import graphs
import numpy as np
import pytest
import torch
from graphs import Link, Prompt, node
from host_client import Client
from test_host_full_run import PICTURES, Figures, but, overlap, write
from test_host_train import KPOP, TRAIN, files

from eraser_core.erasing import configure, erase
from eraser_core.erasure import load_erasure
from eraser_core.evaluation.examiner import Question
from eraser_core.evaluation.metrics.objects import Rate, psr
from eraser_core.evaluation.pocket.tasks import object_task
from eraser_core.methods import method
from eraser_core.models import Model, open_model
from eraser_core.sampling import picture_seed

FLOW = "pocket_flow.safetensors"
SHEETS = {"esr1": "erased", "psr1": "kept", "recovery1": "erased"}  # a figure and what is asked for it


def training() -> Prompt:
    """The checkpoint and the training node with KPOP's defaults."""
    return graphs.checkpoint(FLOW) | {
        "kpop": node("ConceptEraser_KPOPSettings", **{**KPOP, "eta": -1.0, "latents": "pool"}),
        "train": node(
            "ConceptEraser_TrainConceptEraser",
            **{**TRAIN, "anchor": "castle", "steps": 0, "batch": 0, "method": ["kpop", 0]},
        ),
    }


def drawing(model: Model, name: str, questions: Sequence[Question], hidden: Link | None = None) -> Prompt:
    """KSampler's pictures of the questions by the trained MODEL, from the noise and in the steps of the examiner."""
    prompt: Prompt = {}
    for i, question in enumerate(questions):
        one = f"{name}{i}"
        halves = {"positive": [f"{one}.pos", 0], "negative": [f"{one}.neg", 0]}
        if hidden is not None:
            inject = {**halves, "prompt_name": "(from the socket)", "concept": "church", "hidden_prompt": hidden}
            prompt[f"{one}.p"] = node("ConceptEraser_HiddenPromptInject", **inject, strength=1.0)
            halves = {"positive": [f"{one}.p", 0], "negative": [f"{one}.p", 1]}
        seed = picture_seed(model.examiner.suite_seed, question.index)
        prompt |= graphs.picture(one, question.prompt, ["train", 0], **halves, steps=model.examiner.steps, seed=seed)
        prompt[f"{one}.sampled"]["inputs"] |= {"sampler_name": "euler", "scheduler": "simple"}
        prompt[f"{one}.sampled"]["inputs"]["cfg"] = model.examiner.guidance
    return prompt


def figures(right: dict[str, torch.Tensor]) -> Figures:
    """Verdicts by figure as shares; ESR-1 counts the pictures that do not show the concept."""
    rates = {column: Rate(int(hits.sum()), len(hits)) for column, hits in right.items()}
    return {column: but(rate) if column == "esr1" else rate for column, rate in rates.items()}


@pytest.mark.slow
def test_the_node_and_the_engine_erase_and_draw_alike(host: Client) -> None:
    model = open_model("pocket-flow")
    task = object_task(model.concepts, model.denoiser, "church", anchor="castle", n=PICTURES)
    sheets = {column: task.sheets[sheet] for column, sheet in SHEETS.items()}
    before = files(host, "loras")
    prompt = training()
    for column, questions in sheets.items():
        prompt |= drawing(model, column, questions, ["train", 2] if column == "recovery1" else None)
    outputs = host.run(prompt, seconds=3600)
    (name,) = files(host, "loras") - before
    by_node = {}
    for column, questions in sheets.items():
        pictures = np.stack([host.images(outputs, f"{column}{i}")[0] for i in range(PICTURES)])
        images = torch.from_numpy(pictures).movedim(-1, 1) / 255
        by_node[column] = model.examiner.rank_images(questions, images) == 0

    kpop = method("kpop")
    settings = configure(kpop, "pocket-flow", task.request, {})
    engine = erase(model.denoiser, task.request, kpop, settings, key_seed=TRAIN["key_seed"])
    facts = load_erasure(host.base / "output" / "loras" / name).facts
    for fact in ("erasure.request", "erasure.settings"):
        assert facts[fact] == engine.erasure.facts[fact]
    edit, (hidden,), ask = engine.erasure.as_edit(), engine.prompts, model.examiner.ranks
    by_engine = {
        column: ask(questions, edit, hidden if column == "recovery1" else None) == 0
        for column, questions in sheets.items()
    }
    rows = {"node": figures(by_node), "engine": figures(by_engine)}
    rows["untouched"] = {"esr1": but(psr(ask(sheets["esr1"]))), "psr1": psr(ask(sheets["psr1"]))}
    rows["same verdict"] = {c: Rate(int((by_node[c] == by_engine[c]).sum()), PICTURES) for c in sheets}
    write("church, pocket-flow", rows)
    for column, rate in rows["node"].items():
        assert overlap(rate, rows["engine"][column]), (column, rows)
    for who in ("node", "engine"):  # and they say something: of the untouched model it would not hold
        assert rows[who]["esr1"].value > 0.8 and not overlap(rows[who]["esr1"], rows["untouched"]["esr1"])
        assert not overlap(rows[who]["recovery1"], but(rows[who]["esr1"]))
