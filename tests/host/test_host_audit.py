"""Audit Erasure: what undoes a file is said and shown, what does not is too, and wrong inputs are refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import graphs
import pytest
import torch
from graphs import node
from host_client import Client, QueueError
from safetensors.torch import save_file
from test_host_cancel import listen, socket_of
from test_host_closed_form import SOLVE
from test_host_train import files

from eraser_core.erasure import LowRank, load_erasure
from eraser_core.evaluation.report.sidecar import audit_verdict, sidecar_of
from scripts.workflow_parts import EXAMPLE

EXAMPLES = Path(__file__).resolve().parents[2] / "shared_examples"
# No overshoot: the church comes back with the anchor as a negative prompt.
OWN = SOLVE | {"filename_prefix": "loras/audited", "settings": ["set", 0]}
FEW = {"attacks": "chosen", "chosen": "algebra", "concept": "", "images": 2, "seed": 0, "steps": 4}


@pytest.fixture(scope="module")
def erasure(host: Client) -> Path:
    """A church erased in closed form, which algebra undoes."""
    before = files(host, "loras")
    own = {"preset": "current", "layers": "kv", "l": -1.0, "s_e": -1.0, "s_p": -1.0}
    settings = {"set": node("ConceptEraser_UCESettings", **own)}
    host.run(graphs.checkpoint() | settings | {"solve": node("ConceptEraser_EraseClosedForm", **OWN)})
    (name,) = files(host, "loras") - before
    return host.base / "output" / "loras" / name


def auditing(name: str, **changes: Any) -> graphs.Prompt:
    parts = {"model": ["ckpt", 0], "clip": ["ckpt", 1], "vae": ["ckpt", 2], "erasure_name": name}
    audit = node("ConceptEraser_AuditErasure", **{**parts, **FEW, **changes})
    return graphs.checkpoint() | {"audit": audit, "shown": node("PreviewImage", images=["audit", 0])}


def pages(host: Client) -> set[Path]:
    return set((host.base / "output" / "audits").glob("*/index.html"))


def said(outputs: dict[str, Any]) -> str:
    return str(outputs["audit"]["text"][0])


def test_what_undoes_a_file_is_said_shown_and_written_beside_it(host: Client, erasure: Path) -> None:
    content, before = erasure.read_bytes(), pages(host)
    outputs = host.run(auditing(erasure.name))
    assert "'a church' comes back by 1 of 1 attacks: algebra" in said(outputs)
    assert min(host.images(outputs, "shown")[0].shape[:2]) > 100
    (page,) = pages(host) - before
    assert said(outputs).splitlines()[-1] == f"the page: {page.relative_to(host.base / 'output')}"
    assert (page.parent / "audit.json").is_file() and not list(page.parent.glob(".*"))
    assert erasure.read_bytes() == content
    verdict = audit_verdict(erasure, load_erasure(erasure).hash())
    assert verdict.startswith("'a church' comes back")
    loaded = {"load": node("ConceptEraser_LoadErasure", erasure_name=erasure.name)}
    info = {"info": node("ConceptEraser_ErasureInfo", erasure=["load", 0])}
    assert f"audit: {verdict}" in host.run(loaded | info)["info"]["text"][0]
    shown = host.run({"eval": node("ConceptEraser_Evaluation", erasure_name=erasure.name, suite="audit")})
    assert "algebra: solved context" in shown["eval"]["text"][0] and verdict in shown["eval"]["text"][0]
    sidecar_of(erasure).unlink()
    assert "audit:" not in host.run(loaded | info)["info"]["text"][0]


def test_what_does_not_undo_a_file_is_said_and_the_examples_stay(host: Client) -> None:
    before = {path: path.read_bytes() for path in EXAMPLES.rglob("*") if path.is_file()}
    found = said(host.run(auditing(EXAMPLE, seed=9)))  # another seed than the template's, whose audit would go on
    assert "'a guitar' did not come back by algebra" in found and "the pack's examples are only read" in found
    assert {path: path.read_bytes() for path in EXAMPLES.rglob("*") if path.is_file()} == before


def test_a_cancelled_audit_goes_on(host: Client, erasure: Path) -> None:
    socket_of(host)
    before = pages(host)
    asked = auditing(erasure.name, chosen="algebra\nsettings", images=4, seed=3)
    prompt_id = host.submit(asked)
    words = b""
    while b"attack 2 of 2, settings, " not in words:
        words += b"".join(raw for kind, raw in listen(host, "text") if kind == "text")
    assert b"s left" in words
    host.post("/interrupt", {})
    with pytest.raises(QueueError, match="interrupted"):
        host.wait(prompt_id)
    (page,) = pages(host) - before
    done = json.loads((page.parent / "audit.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in done["attacks"]] == ["algebra"] and not list(page.parent.glob(".*"))
    host.run(asked)
    again = json.loads((page.parent / "audit.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in again["attacks"]] == ["algebra", "settings"]
    assert again["attacks"][0] == done["attacks"][0] and pages(host) - before == {page}


def plain_lora(erasure: Path, name: str) -> str:
    """The erasure's own numbers as a LoRA that says nothing."""
    save_file({k: t.contiguous() for k, t in load_erasure(erasure).tensors().items()}, erasure.with_name(name))
    return name


def test_a_plain_lora_is_audited_when_its_concept_is_named(host: Client, erasure: Path) -> None:
    name = plain_lora(erasure, "plain.safetensors")
    with pytest.raises(
        QueueError, match="a plain LoRA, which does not say what it erases: type that into the box 'concept'"
    ):
        host.run(auditing(name))
    found = said(host.run(auditing(name, concept="church", chosen="algebra")))
    assert "'a church' comes back by 1 of 1 attacks: algebra" in found
    assert not sidecar_of(erasure.with_name(name)).exists()
    found = said(host.run(auditing(name, concept="dog")))
    assert "'a dog' is not erased" in found


def test_wrong_inputs_are_refused_in_words(host: Client, erasure: Path) -> None:
    own, before = load_erasure(erasure), pages(host)
    replace(own, family="sd1").save(erasure.with_name("audited_sd1.safetensors"))
    replace(own, base_hash="0" * 64).save(erasure.with_name("audited_base.safetensors"))
    wide = {key: LowRank(torch.ones(3, 1), torch.ones(1, 5)) for key in own.entries}
    save_file(replace(own, entries=wide).tensors(), erasure.with_name("audited_wide.safetensors"))
    for changes, message in (
        ({"erasure_name": "audited_sd1.safetensors"}, "family 'sd1', the model given is 'pocket'"),
        ({"erasure_name": "audited_base.safetensors"}, "another model of this family"),
        ({"erasure_name": "audited_wide.safetensors", "concept": "church"}, "was made for another kind of model"),
        ({"concept": "dog"}, "does not erase 'dog': it erases a church"),
        ({"erasure_name": plain_lora(erasure, "plain.safetensors"), "concept": "gutar"}, "draws no 'gutar'.*guitar"),
        ({"erasure_name": "gone.safetensors"}, "there is no file 'gone.safetensors'"),
        ({"erasure_name": "(from the socket)"}, "choose an erasure file, or connect"),
        ({"chosen": "magic"}, "the box 'chosen': there is no attack 'magic'"),
        ({"chosen": " "}, "the box 'chosen' is empty"),
        ({"folder_prefix": "../out"}, "leads out of"),
    ):
        with pytest.raises(QueueError, match=message):
            host.run(
                auditing(
                    **{"name": erasure.name, **changes} if "erasure_name" not in changes else {"name": "", **changes}
                )
            )
    applied = {
        "apply": node("ConceptEraser_ApplySanitizedUNet", model=["ckpt", 0], erasure_name=erasure.name, strength=1.0)
    }
    with pytest.raises(QueueError, match="this MODEL carries an erasure already"):
        host.run(applied | auditing(erasure.name, model=["apply", 0]))
    assert pages(host) == before


def test_the_node_and_the_command_line_find_the_same(
    comfy: ModuleType, pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's own network, text encoder and VAE, asked by the engine's attacks, those that learn among them."""
    from concept_eraser_pack.nodes.host.audited import opened

    from eraser_core.audit.run import audit
    from eraser_core.evaluation.attacks import fine_tuning, inversion, token
    from eraser_core.models import open_model

    for module, name in ((inversion, "STEPS"), (token, "ITERATIONS"), (fine_tuning, "STEPS")):
        monkeypatch.setattr(module, name, 2)
    erasure = load_erasure(EXAMPLES / "loras" / EXAMPLE)
    attacks = ("token", "relearning", "inversion")
    model, clip, vae = comfy_nodes(comfy)
    with torch.inference_mode(False), torch.enable_grad():
        ours = audit(opened(model, clip, vae, 2), erasure, attacks, images=2)
    theirs = audit(open_model("pocket", steps=2), erasure, attacks, images=2)
    assert ours.setting == theirs.setting and ours.plain == theirs.plain
    for mine, other in zip(ours.attacks, theirs.attacks, strict=True):
        assert not mine.left_out
        assert [(r.label, r.erased, r.untouched, r.unknown) for r in mine.rows] == [
            (r.label, r.erased, r.untouched, r.unknown) for r in other.rows
        ]


def test_a_model_without_a_judge_is_drawn_and_what_was_not_measured_is_said(
    comfy: ModuleType, pack: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A narrow SD1 of the host's, with a text encoder of that width and a small VAE of random weights."""
    from comfy.sd import VAE
    from comfy.taesd.taesd import TAESD
    from concept_eraser_pack.nodes.audit_run import run
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser
    from test_host_bad_nodes import narrow

    from eraser_core.erasing import configure, erase
    from eraser_core.evaluation.attacks import precision
    from eraser_core.methods import METHODS
    from eraser_core.request import Request, Target

    monkeypatch.setattr(precision, "ROUNDED", {"fp8": precision.ROUNDED["fp8"]})
    _, clip, _ = comfy_nodes(comfy)
    model, vae = narrow("sd1", 192), VAE(sd=TAESD(latent_channels=4).state_dict())
    for parameter in model.model.diffusion_model.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(0))
    request = Request((Target("a church", "a mosque"),), ("a dog",))
    settings = configure(METHODS["uce"], "sd1", request, {"preset": "current"})
    with torch.inference_mode(False), torch.no_grad():
        erased = erase(UnloadedDenoiser(model, clip), request, METHODS["uce"], settings).erasure
    values = {"attacks": "chosen", "chosen": "algebra, precision", "concept": "", "images": 1, "seed": 0, "steps": 1}
    found = run(model, clip, vae, "", erased, values, SimpleNamespace(unique_id="", extra_pnginfo=None))
    assert "has no judge" in found.verdict and "was not measured" in found.verdict
    assert "precision: not judged: there are pictures and no judge" in found.text
    assert "by algebra from the file" in found.text and "choose the erasure's file" in found.text
    assert found.sheet.shape[0] == 1 and min(found.sheet.shape[1:3]) > 100


def comfy_nodes(comfy: ModuleType) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the pocket checkpoint, as the host's loader gives them."""
    with torch.inference_mode():
        model, clip, vae = comfy.CheckpointLoaderSimple().load_checkpoint(graphs.POCKET)
    return model, clip, vae
