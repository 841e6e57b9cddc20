"""Share Erasure: a folder below the output folder, with the file, the picture and the card, and nothing private."""

from __future__ import annotations

import json
from pathlib import Path

import graphs
import pytest
from graphs import node
from host_client import Client, QueueError
from PIL import Image
from test_host_closed_form import SOLVE
from test_host_train import files
from ui_format import to_prompt

from eraser_core.erasure import load_erasure

WORDS = {"licence": "apache-2.0", "base": "", "author": "An Author", "folder_prefix": "shared/church"}


@pytest.fixture(scope="module")
def erasure(host: Client) -> Path:
    before = files(host, "loras")
    host.run(graphs.checkpoint() | {"solve": node("ConceptEraser_EraseClosedForm", **SOLVE)})
    (name,) = files(host, "loras") - before
    return host.base / "output" / "loras" / name


def shared(host: Client) -> set[Path]:
    return {p for p in (host.base / "output" / "shared").glob("*") if p.is_dir()}


def test_it_writes_a_folder_and_the_next_one_beside_it(host: Client, erasure: Path) -> None:
    picture = {"empty": node("EmptyImage", width=32, height=16, batch_size=2, color=0xFF0000)}
    sharing = node("ConceptEraser_ShareErasure", erasure_name=erasure.name, picture=["empty", 0], **WORDS)
    host.run(picture | {"share": sharing})
    (first,) = shared(host)
    assert load_erasure(first / erasure.name).hash() == load_erasure(erasure).hash()
    with Image.open(first / "before_after.png") as saved:
        assert saved.size == (32, 16) and saved.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    card = (first / "README.md").read_text(encoding="utf-8")
    assert "An Author" in card and "no figures" in card
    host.run({"share": node("ConceptEraser_ShareErasure", erasure_name=erasure.name, **WORDS | {"author": "B"})})
    (second,) = shared(host) - {first}
    assert "no picture" in (second / "README.md").read_text(encoding="utf-8")


def test_the_shared_workflow_runs_with_the_shared_file(host: Client, erasure: Path) -> None:
    before = shared(host)
    host.run({"share": node("ConceptEraser_ShareErasure", erasure_name=erasure.name, **WORDS)})
    (folder,) = shared(host) - before
    prompt = to_prompt(json.loads((folder / "apply_a_shared_erasure.json").read_text(encoding="utf-8")))
    for step in prompt.values():
        step["inputs"] |= {"steps": 2} if step["class_type"] == "KSampler" else {}
    outputs = host.run(prompt)
    assert any(output.get("images") for output in outputs.values())
    assert erasure.name in json.dumps(prompt) and "a church" in json.dumps(prompt)


def test_what_cannot_be_shared_is_refused_in_words(host: Client, erasure: Path) -> None:
    before = shared(host)
    for changes, said in (
        ({"erasure_name": "nothing.safetensors"}, "nothing.safetensors"),
        ({"folder_prefix": "../outside/x"}, "leads out"),
    ):
        words = {"erasure_name": erasure.name, **WORDS, **changes}
        with pytest.raises(QueueError, match=said):
            host.run({"share": node("ConceptEraser_ShareErasure", **words)})
    assert shared(host) == before
