"""The model card of erasures of Stable Diffusion: what it names, and that its own lines run."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from tiny_folder import pipeline_folder

from eraser_core import erase, open_model
from eraser_core.erasure import Dense, Erasure, LowRank, as_facts
from eraser_core.sharing import folder
from eraser_core.sharing.card import Wishes
from eraser_core.sharing.share import Drawing, share


def erasure_of(entry: LowRank | Dense, family: str, key: str = "diffusion_model.a.attn2.to_k.weight") -> Erasure:
    facts = as_facts({"targets": ["a `church`|x\n# y"], "anchor": [""], "retain": [], "method": "esd"})
    return Erasure({key: entry}, {key.rpartition(".")[0]: "lora_unet_a"}, family, "f" * 64, facts)


LOW = LowRank(torch.ones(4, 2), torch.ones(2, 4))
KINDS = {
    "low-rank sd1": (erasure_of(LOW, "sd1"), True),
    "low-rank sdxl": (erasure_of(LOW, "sdxl"), True),
    "dense sd1": (erasure_of(Dense(torch.ones(4, 4)), "sd1"), False),
    "low-rank elsewhere": (erasure_of(LOW, "sd1", "diffusion_model.a.conv.weight"), True),
    "low-rank pocket": (erasure_of(LOW, "pocket"), False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_names_diffusers_where_the_file_is_readable_there(tmp_path, kind):
    erasure, readable = KINDS[kind]
    erasure.save(tmp_path / "x.safetensors")
    share(tmp_path / "x.safetensors", tmp_path / "shared", Wishes(base="someone/model", licence="openrail"))
    text = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert ("load_lora_weights" in text) == readable
    assert card.data.library_name == ("diffusers" if readable else "concept-eraser")
    assert card.data.base_model == "someone/model"
    assert ("We have not tried it there" in text) == (erasure.family != "pocket")
    assert "\n# y" not in text  # a concept's words are no markup


def test_a_stable_diffusion_erasure_is_drawn_and_its_card_loads_it_in_diffusers(tmp_path, monkeypatch, caplog):
    pytest.importorskip("peft", reason="diffusers' LoRA loader needs it")
    base = str(pipeline_folder(tmp_path / "base"))
    model = open_model(base, steps=2)
    path = erase(model, "a church|a chapel", anchors="a castle", method="uce").save(tmp_path / "made")
    share(path, tmp_path / "shared", Wishes(base=base), Drawing(lambda: model))
    assert "no figures" in caplog.text  # nobody judges this model's pictures
    text = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    assert "no picture" not in text and "There are no figures" in text and "| erased with it | a chapel |" in text
    (code,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path / "shared")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["pipe"].get_active_adapters()
    graph = json.loads((tmp_path / "shared" / folder.WORKFLOW).read_text(encoding="utf-8"))
    values = {node["type"]: node.get("widgets_values") for node in graph["nodes"]}
    assert values["EmptyLatentImage"] == [512, 512, 4] and values["KSampler"][2:4] == [25, 7.5]
    assert values["CheckpointLoaderSimple"] == ["base.safetensors"]
