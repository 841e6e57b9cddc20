"""Every workflow that ships, queued on the real server in a few steps, yields the outputs it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graphs
import pytest
from host_client import Client, QueueError
from PIL import Image
from ui_format import to_prompt

from eraser_core.erasure import load_erasure
from eraser_core.evaluation.report.sidecar import SCHEMA
from scripts.workflow_graphs import all_graphs
from scripts.workflow_parts import FIRST_FILE, SD15

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# How many output nodes give pictures, and how many text.
PROMISED = {
    "erase_an_object": (2, 0),
    "erase_a_style": (2, 0),
    "apply_a_shared_erasure": (1, 2),
    "recover_with_the_hidden_prompt": (1, 0),
    "score_a_batch_with_nudenet": (2, 2),
    "erase_from_your_checkpoint": (2, 0),
    "erase_closed_form": (2, 0),
    "attribution_before_and_after": (2, 2),
    "show_an_evaluation": (2, 2),
}
FEW = {
    "KSampler": {"steps": 2},
    "EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "ConceptEraser_TrainConceptEraser": {"steps": 2, "batch": 1},
    "ConceptEraser_KPOPSettings": {"latents": "fresh"},
    "ConceptEraser_AttributionMap": {"steps": 2, "batch": 1},
}


def read(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def shortened(name: str) -> graphs.Prompt:
    """The workflow in a few steps, with the pocket model in place of a downloaded one."""
    prompt = to_prompt(read(name))
    for node in prompt.values():
        node["inputs"] |= FEW.get(node["class_type"], {})
        if node["inputs"].get("ckpt_name") == SD15:
            node["inputs"]["ckpt_name"] = graphs.POCKET
    return prompt


@pytest.fixture(scope="module")
def object_erased(host: Client) -> dict[str, Any]:
    """The outputs of the first workflow, whose files three others use, one of them with figures beside it."""
    outputs = host.run(shortened("erase_an_object"))
    path = host.base / "output" / "loras" / FIRST_FILE
    row = {"name": "church", "quoted": False, "cells": {"ESR-1": {"text": "100.0"}}}
    suites = {"pocket": {"tables": [{"title": "Objects", "columns": ["ESR-1 (up)"], "rows": [row], "note": ""}]}}
    sidecar = {"schema": SCHEMA, "erasure_hash": load_erasure(path).hash(), "suites": suites}
    path.with_suffix(".evaluation.json").write_text(json.dumps(sidecar), encoding="utf-8")
    return outputs


def test_all_workflows_of_the_issue_are_there() -> None:
    assert set(NAMES) == set(PROMISED) == set(all_graphs())


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_yields_what_it_promises(host: Client, object_erased: dict[str, Any], name: str) -> None:
    outputs = object_erased if name == "erase_an_object" else host.run(shortened(name))
    shown = [node for node, output in outputs.items() if output.get("images")]
    said = [node for node, output in outputs.items() if output.get("text")]
    assert (len(shown), len(said)) == PROMISED[name]
    for node in shown:
        assert min(host.images(outputs, node)[0].shape[:2]) >= 48  # a table of one row is low


def test_a_workflow_whose_file_is_missing_says_how_to_make_it(host: Client, object_erased: dict[str, Any]) -> None:
    for name, folder in (
        ("apply_a_shared_erasure", "loras"),
        ("recover_with_the_hidden_prompt", "hidden_prompts"),
        ("show_an_evaluation", "loras"),
    ):
        workflow = read(name)
        path = host.base / "output" / folder / FIRST_FILE
        content = path.read_bytes()
        path.unlink()
        value = {
            "prompt": shortened(name),
            "client_id": host.id,
            "extra_data": {"extra_pnginfo": {"workflow": workflow}},
        }
        try:
            with pytest.raises(QueueError, match="run the template 'erase_an_object'"):
                host.wait(host.post("/prompt", value)["prompt_id"])
        finally:
            path.write_bytes(content)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_thumbnail_and_no_randomised_seed(name: str) -> None:
    with Image.open(FOLDER / f"{name}.jpg") as thumbnail:
        assert min(thumbnail.size) >= 256
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert "randomize" not in text
    for word in ("/root", "/work", "/tmp"):
        assert word not in text


def test_the_template_browser_lists_them(host: Client) -> None:
    assert sorted(host.get("/workflow_templates")["ConceptEraser"]) == NAMES
    assert json.loads(host.text(f"/api/workflow_templates/ConceptEraser/{NAMES[0]}.json")) == read(NAMES[0])


def test_files_that_a_workflow_wants_are_named_with_hash_and_source() -> None:
    for name in ("apply_a_shared_erasure", "recover_with_the_hidden_prompt", "show_an_evaluation"):
        models = [
            m for n in read(name)["nodes"] for m in n["properties"].get("models", []) if m["directory"] == "loras"
        ]
        assert models and all(m["name"] == FIRST_FILE and m["url"] and len(m["hash"]) == 64 for m in models)
