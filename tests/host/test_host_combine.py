"""*Combine Erasures*: the engine's combination on the host's MODEL, and what it refuses."""

from __future__ import annotations

import json
from types import ModuleType

import graphs
import numpy as np
import pytest
from graphs import node
from host_client import Client, QueueError
from test_host_closed_form import solving
from test_host_train import files

from eraser_core.erasure import load_erasure
from eraser_core.many.combine import CombineSettings, combine, source
from eraser_core.models import open_model

COMBINE = {"model": ["ckpt", 0], "clip": ["ckpt", 1], "erasure_names": "", "kept": 3.0, "precision": "fp16"}
COMBINE |= {"filename_prefix": "loras/combined"}


def two() -> graphs.Prompt:
    second = solving(concepts="guitar", anchor="violin", filename_prefix="loras/second")["solve"]
    return solving() | {"second": second}


def test_two_sockets_become_one_file_of_both(host: Client) -> None:
    before = files(host, "loras")
    prompt = two() | {
        "both": node("ConceptEraser_CombineErasures", **COMBINE, erasure_1=["solve", 1], erasure_3=["second", 1])
    }
    prompt |= graphs.picture("original", "a church") | graphs.picture("combined", "a church", ["both", 0])
    prompt |= {"lora": graphs.core_lora(["both", 2])} | graphs.picture("core", "a church", ["lora", 0])
    outputs = host.run(prompt)
    drawn = {n: host.images(outputs, n)[0] for n in ("original", "combined", "core")}
    assert not np.array_equal(drawn["original"], drawn["combined"]) and np.array_equal(drawn["core"], drawn["combined"])
    saved = {name: load_erasure(host.base / "output" / "loras" / name) for name in files(host, "loras") - before}
    both = next(e for name, e in saved.items() if name.startswith("combined"))
    assert json.loads(both.fact("targets")) == ["a church", "a guitar"]
    own = [e for name, e in saved.items() if not name.startswith("combined")]
    own.sort(key=lambda e: e.fact("targets"))
    ours = combine(open_model("pocket").denoiser, [source(str(i), e) for i, e in enumerate(own)], CombineSettings())
    for key, entry in ours.erasure.entries.items():
        assert float((both.entries[key].delta() - entry.delta()).norm() / entry.delta().norm()) < 2e-2, key


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"erasure_1": ["solve", 1]}, "two erasures at least"),
        ({"erasure_1": ["solve", 1], "erasure_2": ["solve", 1]}, "both erase"),
        ({"erasure_names": "none.safetensors"}, "there is no file 'none.safetensors'"),
        ({"erasure_1": ["solve", 1], "erasure_2": ["second", 1], "filename_prefix": "../up"}, "filename_prefix|output"),
    ],
)
def test_what_cannot_be_combined_is_said_and_nothing_is_saved(
    host: Client, values: dict[str, object], message: str
) -> None:
    host.run(two())  # their own files are there
    before = files(host, "loras")
    with pytest.raises(QueueError, match=message):
        host.run(two() | {"both": node("ConceptEraser_CombineErasures", **(COMBINE | values))})
    assert not {name for name in files(host, "loras") - before if name.startswith("combined")}


def test_the_node_is_light_to_import(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.combine import CombineErasures

    assert len(CombineErasures.GET_SCHEMA().inputs) == 14
