"""Train Concept Eraser and the nodes around it, on the running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import pytest
from graphs import node
from host_client import Client, QueueError

from eraser_core.erasure import load_erasure
from eraser_core.hidden_prompt import load_prompts

TRAIN = {
    "model": ["ckpt", 0],
    "clip": ["ckpt", 1],
    "concepts": "church",
    "anchor": "a castle",
    "retain": "",
    "steps": 2,
    "tune": "xattn-kv",
    "rank": -1,
    "seed": 0,
    "key_seed": 7,
    "width": 0,
    "height": 0,
    "batch": 2,
    "precision": "fp16",
    "compute": "auto",
    "filename_prefix": "loras/erased",
}
KPOP = {
    "mechanism": "concatenative",
    "lambda_": -1.0,
    "k": -1,
    "eta": 0.01,
    "eta_p": -1.0,
    "guidance": -1.0,
    "retain_weight": -1.0,
    "recovery_target": "erased",
    "latents": "fresh",
    "latents_from": "frozen",
    "optimizer": "adam",
    "null_space": False,
}


def training(**values: Any) -> graphs.Prompt:
    """The checkpoint, two quick steps of KPOP at a rate that shows, and the training node."""
    method = {name: values.pop(name) for name in list(values) if name in KPOP}
    return graphs.checkpoint() | {
        "kpop": node("ConceptEraser_KPOPSettings", **{**KPOP, **method}),
        "train": node("ConceptEraser_TrainConceptEraser", **{**TRAIN, "method": ["kpop", 0], **values}),
    }


def files(host: Client, folder: str) -> set[str]:
    return {path.name for path in (host.base / "output" / folder).glob("*.safetensors")}


@pytest.fixture(scope="module")
def trained(host: Client) -> dict[str, Any]:
    """One training with previews, its pictures with the node's MODEL, and what lies on the disk."""
    before = files(host, "loras")
    prompt = training(vae=["ckpt", 2])
    prompt |= graphs.picture("original", "a church") | graphs.picture("sanitized", "a church", ["train", 0])
    inject = {"positive": ["sanitized.pos", 0], "negative": ["sanitized.neg", 0], "prompt_name": "(from the socket)"}
    inject |= {"concept": "church", "hidden_prompt": ["train", 2]}
    prompt |= {
        "inject": node("ConceptEraser_HiddenPromptInject", strength=1.0, **inject),
        "inject none": node("ConceptEraser_HiddenPromptInject", strength=0.0, **inject),
    }
    for name, source in (("recovered", "inject"), ("not recovered", "inject none")):
        prompt |= graphs.picture(name, "a church", ["train", 0], positive=[source, 0], negative=[source, 1])
    rows = {"before": ["original.decoded", 0], "after": ["sanitized.decoded", 0], "third": ["recovered.decoded", 0]}
    prompt |= {"compare": node("ConceptEraser_Compare", labels="before | after | with p", **rows)}
    prompt |= {"compared": node("SaveImage", images=["compare", 0], filename_prefix="test/compare")}
    prompt |= {"lora": graphs.core_lora(["train", 3])}
    prompt |= graphs.picture("core lora", "a church", ["lora", 0])
    prompt |= {"info": node("ConceptEraser_ErasureInfo", erasure=["train", 1], model=["train", 0])}
    prompt |= {"plot": node("LossGraphNode", loss=["train", 4], filename_prefix="loss")}
    outputs = host.run(prompt)
    (name,) = files(host, "loras") - before
    return {"outputs": outputs, "name": name, "prompt": prompt}


def pictures(host: Client, trained: dict[str, Any], name: str) -> np.ndarray:
    return host.images(trained["outputs"], name)[0]


def test_the_sanitized_model_draws_otherwise_and_the_original_as_before(host: Client, trained: dict[str, Any]) -> None:
    alone = host.run(graphs.checkpoint() | graphs.picture("alone", "a church"))
    original = pictures(host, trained, "original")
    assert np.array_equal(host.images(alone, "alone")[0], original)
    assert not np.array_equal(pictures(host, trained, "sanitized"), original)


def test_the_hidden_prompt_changes_the_picture_and_strength_0_is_the_identity(
    host: Client, trained: dict[str, Any]
) -> None:
    sanitized = pictures(host, trained, "sanitized")
    assert not np.array_equal(pictures(host, trained, "recovered"), sanitized)
    assert np.array_equal(pictures(host, trained, "not recovered"), sanitized)


def test_core_nodes_take_the_lora_the_losses_and_the_comparison(host: Client, trained: dict[str, Any]) -> None:
    assert np.array_equal(pictures(host, trained, "core lora"), pictures(host, trained, "sanitized"))
    assert pictures(host, trained, "compared").shape[0] > 3 * 64
    assert trained["outputs"]["plot"]["images"]


def test_info_says_what_was_erased_and_what_the_model_carries(trained: dict[str, Any]) -> None:
    (text,) = trained["outputs"]["info"]["text"]
    assert "erased: a church, drawn instead: a castle" in text
    assert f"strength 1, {trained['name']}" in text
    assert "this very base model" in text
    assert "settings: iterations 2, batch 2, " in text and "run: width 64, height 64, " in text
    assert "dense" not in text  # a confined change has a low rank, which diffusers loads too


def test_the_files_hold_the_run_and_the_key_is_in_the_prompt_alone(host: Client, trained: dict[str, Any]) -> None:
    erasure = load_erasure(host.base / "output" / "loras" / trained["name"])
    prompts, metadata = load_prompts(host.base / "output" / "hidden_prompts" / trained["name"])
    assert json.loads(erasure.facts["erasure.targets"]) == ["a church"]
    assert metadata["hidden_prompt.erasure_hash"] == erasure.hash()
    assert metadata["hidden_prompt.key_seed"] == "7"
    assert [p.concept for p in prompts] == ["a church"]
    assert "key_seed" not in json.dumps(dict(erasure.facts))


def test_two_concepts_are_confined_and_written_in_full_precision(host: Client) -> None:
    """What a user queues: several concepts by KPOP, its file by the stock loader, the picture of the node's MODEL."""
    before = files(host, "loras")
    prompt = training(concepts="church\nguitar", anchor="a castle\na violin", precision="fp32")
    prompt |= graphs.picture("sanitized", "a church", ["train", 0])
    prompt |= {"lora": graphs.core_lora(["train", 3])} | graphs.picture("core lora", "a church", ["lora", 0])
    outputs = host.run(prompt)
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    assert json.loads(erasure.facts["erasure.settings"])["confine"] == 2.0
    prompts, _ = load_prompts(host.base / "output" / "hidden_prompts" / name)
    assert [p.concept for p in prompts] == ["a church", "a guitar"]
    assert np.array_equal(host.images(outputs, "core lora")[0], host.images(outputs, "sanitized")[0])


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_stock_loader_and_apply_node_give_the_same_picture_from_the_file(
    host: Client, trained: dict[str, Any], strength: float
) -> None:
    name = trained["name"]
    model = {"model": ["ckpt", 0]}
    prompt = graphs.checkpoint() | {
        "stock": node("LoraLoaderModelOnly", lora_name=name, strength_model=strength, **model),
        "apply": node("ConceptEraser_ApplySanitizedUNet", erasure_name=name, strength=strength, **model),
    }
    for which in ("stock", "apply"):
        prompt |= graphs.picture(f"by {which}", "a church", [which, 0])
    outputs = host.run(prompt)
    stock, applied = (host.images(outputs, f"by {which}")[0] for which in ("stock", "apply"))
    assert np.array_equal(stock, applied)
    assert np.array_equal(applied, pictures(host, trained, "sanitized")) is (strength == 1.0)


def test_two_concepts_give_one_erasure_and_two_prompts(host: Client) -> None:
    before = files(host, "loras")
    prompt = training(concepts="church | chapel\nguitar", anchor="", seed=1)
    prompt |= {"copy": node("ConceptEraser_SaveHiddenPrompt", hidden_prompt=["train", 2], filename_prefix="keys/copy")}
    prompt |= graphs.picture("both", "a church", ["train", 0])
    host.run(prompt)
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    assert json.loads(erasure.facts["erasure.targets"]) == ["a church", "a guitar"]
    prompts, _ = load_prompts(host.base / "output" / "keys" / "copy_00001_.safetensors")
    assert [p.concept for p in prompts] == ["a church", "a guitar"]
    inject = {"positive": ["x.pos", 0], "negative": ["x.neg", 0], "prompt_name": name, "strength": 1.0}
    prompt = graphs.checkpoint() | {"inject": node("ConceptEraser_HiddenPromptInject", concept="", **inject)}
    prompt |= graphs.picture("x", "a church", positive=["inject", 0], negative=["inject", 1])
    with pytest.raises(QueueError, match="several concepts"):
        host.run(prompt)
    prompt["inject"]["inputs"]["concept"] = "guitar"
    host.run(prompt)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"concepts": "  \n"}, "the box 'concepts' is empty"),
        ({"concepts": " | "}, "the box 'concepts' is empty"),
        ({"concepts": "church\nguitar\nChurch"}, "has 'church' twice"),
        ({"anchor": "ink"}, "its anchor 'ink' is not"),
        ({"concepts": "ink", "anchor": "castle"}, "its anchor 'castle' is not"),
        ({"retain": "clay"}, "'clay' to retain is of the kind style"),
        ({"concepts": "ink", "anchor": "", "retain": "guitar"}, "'guitar' to retain is of the kind object"),
        ({"retain": "zeppelin"}, "draws no 'zeppelin': this node's help page"),
        ({"concepts": "zeppelin"}, "draws no 'zeppelin'"),
        ({"concepts": "church", "anchor": "a church"}, "is the concept itself"),
        ({"concepts": "church", "anchor": "a\nb"}, "2 lines for 1 concept"),
        ({"retain": "church\nguitar"}, "to erase"),
        ({"tune": "text", "rank": 0}, "give it a rank"),
        ({"k": 0}, "k: "),
        ({"guidance": 0.5}, "guidance"),
        ({"width": 100}, "divide by 8"),
        ({"filename_prefix": "../../outside"}, "leads out of"),
        ({"filename_prefix": ""}, "ends without a name"),
        ({"filename_prefix": "loras/"}, "ends without a name"),
    ],
)
def test_bad_input_is_said_in_words_and_leaves_no_file(host: Client, values: dict[str, Any], said: str) -> None:
    before = files(host, "loras") | files(host, "hidden_prompts")
    with pytest.raises(QueueError, match=said):
        host.run(training(**values))
    assert files(host, "loras") | files(host, "hidden_prompts") == before


def test_a_plain_lora_or_a_missing_file_is_refused_in_words(host: Client, trained: dict[str, Any]) -> None:
    apply = {"model": ["ckpt", 0], "strength": 1.0}
    for name, said in (("gone.safetensors", "there is no file 'gone.safetensors'"), ("(from the socket)", "choose an")):
        prompt = graphs.checkpoint() | {"apply": node("ConceptEraser_ApplySanitizedUNet", erasure_name=name, **apply)}
        with pytest.raises(QueueError, match=said):
            host.run(prompt | graphs.picture("never", "a church", ["apply", 0]))
    hidden = Path(host.base / "output" / "hidden_prompts" / trained["name"])
    (host.base / "output" / "loras" / "key.safetensors").write_bytes(hidden.read_bytes())
    prompt = graphs.checkpoint() | {
        "apply": node("ConceptEraser_ApplySanitizedUNet", erasure_name="key.safetensors", **apply)
    }
    with pytest.raises(QueueError, match="is no erasure made by this program"):
        host.run(prompt | graphs.picture("never", "a church", ["apply", 0]))
    (host.base / "output" / "loras" / "key.safetensors").unlink()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (
            "ESD",
            {"eta": 0.01, "negative_guidance": -1.0, "guidance": -1.0, "retain_weight": 0.0} | {"latents": "fresh"},
        ),
        ("CA", {"eta": 0.01, "anchor_images": 2, "anchor_guidance": -1.0, "retain_weight": 0.0}),
        ("UCE", {"preset": "current", "layers": "kv", "l": -1.0, "s_e": -1.0, "s_p": -1.0}),
        ("TIME", {"layers": "v", "lambda_": -1.0}),
        ("DoubleProjections", {"layers": "kv", "directions": 1, "kept_energy": -1.0}),
    ],
)
def test_the_other_methods_erase_and_learn_no_hidden_prompt(host: Client, kind: str, values: dict[str, Any]) -> None:
    before = files(host, "loras"), files(host, "hidden_prompts")
    prompt = training(retain="guitar\nhouse\ndog", steps=1, batch=1)
    prompt["kpop"] = node(f"ConceptEraser_{kind}Settings", **values)
    host.run(prompt)
    (name,) = files(host, "loras") - before[0]
    erasure = load_erasure(host.base / "output" / "loras" / name)
    assert erasure.entries and json.loads(erasure.facts["erasure.targets"]) == ["a church"]
    assert files(host, "hidden_prompts") == before[1]
    prompt["keep"] = node("ConceptEraser_SaveHiddenPrompt", hidden_prompt=["train", 2], filename_prefix="keys/none")
    with pytest.raises(QueueError, match="no hidden prompt to save"):
        host.run(prompt)


def test_a_missing_file_is_explained_by_the_workflow_that_wants_it(host: Client) -> None:
    prompt = graphs.checkpoint() | {
        "7": node(
            "ConceptEraser_ApplySanitizedUNet", model=["ckpt", 0], erasure_name="shared.safetensors", strength=1.0
        )
    }
    models = [{"name": "shared.safetensors", "url": "https://example.org/shared", "hash": "abc", "hash_type": "SHA256"}]
    properties = {"models": models, "made_by": "run the template 'erase an object'"}
    workflow = {"nodes": [{"id": 7, "properties": properties}]}
    prompt |= graphs.picture("never", "a church", ["7", 0])
    value = {"prompt": prompt, "client_id": host.id, "extra_data": {"extra_pnginfo": {"workflow": workflow}}}
    with pytest.raises(QueueError, match="SHA256 abc, or make it yourself: run the template 'erase an object'"):
        host.wait(host.post("/prompt", value)["prompt_id"])
    with pytest.raises(QueueError) as plain:
        host.run(prompt)
    assert "SHA256" not in plain.value.message


def test_robust_changes_the_whole_network_whatever_the_training_node_tunes(host: Client) -> None:
    before = files(host, "loras")
    robust = {"tune": "all", "eta": 0.01, "resist_weight": -1.0, "margin": -1.0, "retain_weight": -1.0}
    robust |= {"contexts": 2, "context_steps": 1, "pictures": 2, "latents": "fresh"}
    prompt = training(tune="xattn-kv", retain="a dog") | {"robust": node("ConceptEraser_RobustSettings", **robust)}
    prompt["train"]["inputs"]["method"] = ["robust", 0]
    host.run({name: prompt[name] for name in ("ckpt", "robust", "train")})
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    changed = {key for key, entry in erasure.entries.items() if float(entry.delta().abs().max()) > 0}
    assert any(".attn2.to_k." in key for key in changed) and any(".in_layers." in key for key in changed)
    assert not (host.base / "output" / "hidden_prompts" / name).exists()


def test_locked_changes_the_whole_network_too_and_its_hidden_prompt_is_kept_apart(host: Client) -> None:
    before = files(host, "loras")
    locked = {"tune": "all", "eta": 0.01, "lambda_": -1.0, "opens": -1.0, "close": -1.0, "key_norm": 3.0}
    locked |= {"resist_weight": -1.0, "margin": -1.0, "retain_weight": -1.0}
    locked |= {"contexts": 2, "context_steps": 1, "pictures": 2, "latents": "fresh"}
    prompt = training(tune="xattn-kv", retain="a dog") | {"locked": node("ConceptEraser_LockedSettings", **locked)}
    prompt["train"]["inputs"]["method"] = ["locked", 0]
    host.run({name: prompt[name] for name in ("ckpt", "locked", "train")})
    (name,) = files(host, "loras") - before
    erasure = load_erasure(host.base / "output" / "loras" / name)
    assert any(".in_layers." in key and float(e.delta().abs().max()) > 0 for key, e in erasure.entries.items())
    (hidden,), facts = load_prompts(host.base / "output" / "hidden_prompts" / name)
    assert hidden.mechanism == "additive" and facts["hidden_prompt.erasure_hash"] == erasure.hash()
