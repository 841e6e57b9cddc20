"""What the erasing nodes keep where the box is empty, has a dash, or words; and that they say so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from host_client import Client
from test_host_closed_form import files, solving

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tiny_checkpoints import write_checkpoint

from eraser_core import open_model
from eraser_core.erasure import load_erasure
from eraser_core.errors import RequestError
from eraser_core.keeping import Chosen, choose
from eraser_core.retain_lists import kept, words_of


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of the family SD 1.x, which is nobody's: no pocket words."""
    return open_model(str(write_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", "sd1"))).denoiser


@pytest.fixture
def build(pack: ModuleType, denoiser: Any) -> Any:
    from concept_eraser_pack.nodes.request_words import Words
    from concept_eraser_pack.nodes.request_words import build as built

    def typed(concepts: str, retain: str, anchor: str = "") -> Chosen:
        found: Chosen = built(Words(concepts, anchor, retain), denoiser, 3)
        return found

    return typed


def test_an_empty_box_keeps_what_the_command_line_keeps_and_says_so(build: Any, denoiser: Any) -> None:
    found = build("church", "")
    assert found.request == choose(denoiser, [("church", ())], [None], None, 3).request
    assert found.request.retain == kept(["church"], "object") and found.request.targets[0].anchor in words_of("object")
    assert found.source == "the list of objects"
    said = "\n".join(found.notes)
    assert "kept is the list of objects" in said and "a dash (-) in it keeps nothing" in said
    assert build("Kilian Eng", "").source == "the list of artists"


def test_a_dash_keeps_nothing_and_words_keep_themselves(build: Any) -> None:
    nothing, named = build("church", " -\n"), build("church", "castle\na dog")
    assert nothing.request.retain == () and nothing.request.targets[0].anchor in words_of("object")
    assert nothing.source == "nothing" and any("nothing is kept" in note for note in nothing.notes)
    assert named.request.retain == ("castle", "a dog") and named.request.targets[0].anchor in named.request.retain
    assert named.source == "named" and not any("kept" in note for note in named.notes)
    with pytest.raises(RequestError, match=r"the box 'retain' has a dash \(-\), which keeps nothing, beside words"):
        build("church", "-\ncastle")


@pytest.mark.parametrize(
    ("retain", "source", "count"), [("", "a part of what it draws", 34), ("-", "nothing", 0), ("dog\ncat", "named", 2)]
)
def test_the_node_and_its_file_say_what_was_kept(host: Client, retain: str, source: str, count: int) -> None:
    before = files(host, "loras")
    outputs = host.run(solving(retain=retain, method="Double Projections"))
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    run = json.loads(erasure.facts["erasure.run"])
    assert (run["retain_set"], run["retained"]) == (source, count)
    assert len(json.loads(erasure.facts["erasure.retain"])) == count
    (text,) = next(entry["text"] for entry in outputs.values() if "text" in entry)
    assert f"retain_set {source}" in text and (f"kept is {source}" in text) is (source != "named")
