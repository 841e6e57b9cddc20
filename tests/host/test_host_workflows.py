"""Every workflow that ships, queued on the real server in a few steps, yields the outputs it promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import graphs
import pytest
from host_client import Client, QueueError
from PIL import Image
from ui_format import to_prompt

from eraser_core.erasure import LowRank, load_erasure
from eraser_core.hidden_prompt import load_prompts
from scripts.workflow_graphs import all_graphs
from scripts.workflow_parts import EXAMPLE, FLUX, SD15

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
EXAMPLES = FOLDER.with_name("shared_examples")
SHARED = (
    "apply_a_shared_erasure",
    "combine_shared_erasures",
    "recover_with_the_hidden_prompt",
    "show_an_evaluation",
    "audit_an_erasure",
)
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
# How many output nodes give pictures, and how many text.
PROMISED = {
    "erase_an_object": (2, 1),
    "erase_an_object_from_a_transformer": (2, 1),
    "erase_with_flux": (2, 1),
    "erase_a_style": (2, 1),
    "apply_a_shared_erasure": (1, 2),
    "recover_with_the_hidden_prompt": (1, 0),
    "score_a_batch_with_nudenet": (2, 2),
    "erase_from_your_checkpoint": (2, 1),
    "erase_closed_form": (2, 1),
    "combine_shared_erasures": (2, 3),
    "opt_out_a_list": (4, 1),
    "attribution_before_and_after": (2, 3),
    "show_an_evaluation": (2, 2),
    "audit_an_erasure": (1, 2),
}
FEW = {
    "KSampler": {"steps": 2},
    "EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "EmptySD3LatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "ConceptEraser_TrainConceptEraser": {"steps": 2, "batch": 1},
    "ConceptEraser_KPOPSettings": {"latents": "fresh"},
    "ConceptEraser_AttributionMap": {"steps": 2, "batch": 1},
    "ConceptEraser_AuditErasure": {"steps": 4, "images": 2},
}


def read(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def shortened(name: str) -> graphs.Prompt:
    """The workflow in a few steps, with a pocket model in place of a downloaded one."""
    standing_in = {SD15: graphs.POCKET, FLUX: "pocket_flow.safetensors"}
    prompt = to_prompt(read(name))
    for node in prompt.values():
        node["inputs"] |= FEW.get(node["class_type"], {})
        if node["inputs"].get("ckpt_name") in standing_in:
            node["inputs"]["ckpt_name"] = standing_in[node["inputs"]["ckpt_name"]]
    return prompt


def test_all_workflows_of_the_issue_are_there() -> None:
    assert set(NAMES) == set(PROMISED) == set(all_graphs())


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_yields_what_it_promises(host: Client, name: str) -> None:
    """Also alone, on a ComfyUI that has run nothing: what it reads comes with the pack, where nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in EXAMPLES.rglob("*")}
    outputs = host.run(shortened(name))
    assert {path: path.stat().st_mtime_ns for path in EXAMPLES.rglob("*")} == before
    shown = [node for node, output in outputs.items() if output.get("images")]
    said = [node for node, output in outputs.items() if output.get("text")]
    assert (len(shown), len(said)) == PROMISED[name]
    for node in shown:
        assert min(host.images(outputs, node)[0].shape[:2]) >= 48  # a table of one row is low


def test_a_workflow_whose_file_is_missing_says_where_it_comes_from(host: Client) -> None:
    for name in SHARED:
        gone = "gone.safetensors"
        workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8").replace(EXAMPLE, gone))
        prompt = json.loads(json.dumps(shortened(name)).replace(EXAMPLE, gone))
        value = {"prompt": prompt, "client_id": host.id, "extra_data": {"extra_pnginfo": {"workflow": workflow}}}
        with pytest.raises(QueueError, match="it comes with ComfyUI-ConceptEraser, in shared_examples") as error:
            host.wait(host.post("/prompt", value)["prompt_id"])
        assert f"{EXAMPLES}" not in error.value.message  # users put no files there


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
    digest = hashlib.sha256((EXAMPLES / "loras" / EXAMPLE).read_bytes()).hexdigest()
    for name in SHARED:
        models = [
            m for n in read(name)["nodes"] for m in n["properties"].get("models", []) if m["directory"] == "loras"
        ]
        assert models and all((m["name"], m["hash"]) == (EXAMPLE, digest) and m["url"] for m in models)


def test_the_example_is_small_whole_and_what_its_figures_are_of() -> None:
    files = [path for path in EXAMPLES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    erasure = load_erasure(EXAMPLES / "loras" / EXAMPLE)
    prompts, said = load_prompts(EXAMPLES / "hidden_prompts" / EXAMPLE)
    assert said["hidden_prompt.erasure_hash"] == erasure.hash() and [p.concept for p in prompts] == ["a guitar"]
    assert all(isinstance(entry, LowRank) for entry in erasure.entries.values())
    figures = json.loads((EXAMPLES / "loras" / EXAMPLE).with_suffix(".evaluation.json").read_text(encoding="utf-8"))
    assert figures["erasure_hash"] == erasure.hash()
    assert "public on purpose" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
