"""Audits of whole files: several concepts, a LoRA of somebody else's, and the figures that are put beside an erasure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from eraser_core import erase
from eraser_core.__main__ import main
from eraser_core.audit.beside import write_beside
from eraser_core.audit.record import FILE, PAGE, SUMMARY, Audit, Audits, Done, Row, Setting, Share
from eraser_core.audit.run import audit_all
from eraser_core.audit.subject import case_of, target_of
from eraser_core.audit.verdict import of_all, of_attack
from eraser_core.commands.about_file import about
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.errors import FileFormatError, OutputError, RequestError
from eraser_core.evaluation.attacks.registry import ATTACKS
from eraser_core.evaluation.report.grid import grid, native, row_of
from eraser_core.evaluation.report.sidecar import audit_verdict, sidecar_of
from eraser_core.models import Model, open_model
from eraser_core.plain_lora import is_plain, read_lora
from eraser_core.records import SidecarRecord
from eraser_core.sharing.share import share


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket", steps=4, solver="dpmpp")


@pytest.fixture(scope="module")
def erasure(model: Model) -> Erasure:
    return erase(model, "church", "mosque", method="uce", settings={"preset": "current"}).erasure


@pytest.fixture(scope="module")
def both(model: Model) -> Erasure:
    return erase(model, ["church", "dog"], ["mosque", "cat"], method="uce").erasure


def found(concept: str, answer: str, hits: int, plain: int = 0) -> Audit:
    setting = Setting(
        erasure_hash="e",
        base_hash="b",
        concept=concept,
        anchor="",
        images=16,
        seed=0,
        suite_seed=0,
        steps=4,
        guidance=3.0,
    )
    row = Row(label="x", way="when x", answer=answer, erased=Share(hits=hits, n=16), untouched=Share(hits=16, n=16))
    done = Done(name="words", asks="?", paper="arXiv 0", budget="none", verdict="v", rows=(row,))
    return Audit(
        schema="concept-eraser-audit-1",
        name="f",
        setting=setting,
        unknown="tent",
        judged=True,
        plain=Share(hits=plain, n=16),
        verdict=f"{concept} says {answer}.",
        attacks=(done,),
    )


# several concepts


def test_the_verdict_of_a_file_is_that_of_its_worst_concept():
    held, back, none = found("a", "not undone", 0), found("b", "comes back", 16), found("c", "cannot be told", 0)
    assert of_all([held]) == held.verdict
    assert of_all([held, back, none]) == "Of 3 concepts 1 can be brought back. The worst: b says comes back."
    assert of_all([held, none]) == "Of 2 concepts none can be brought back. The worst: c says cannot be told."
    assert "The worst: d says" in of_all([back, found("d", "not undone", 0, plain=12)])


def test_every_concept_of_a_file_has_its_section_and_the_run_goes_on(model, both, tmp_path):
    heard: list[tuple[int, int, str]] = []
    audits = audit_all(model, both, ("algebra",), out=tmp_path, images=2, on_attack=lambda *x: heard.append(x))
    assert [one.setting.concept for one in audits.audits] == ["a church", "a dog"]
    assert heard == [(0, 2, "algebra of 'a church'"), (1, 2, "algebra of 'a dog'"), (2, 2, "")]
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "<h1>a church</h1>" in page and "<h1>a dog</h1>" in page and "id='1-algebra'" in page
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["folders"] == ["1_a_church", "2_a_dog"]
    assert (tmp_path / "1_a_church" / PAGE).is_file() and (tmp_path / SUMMARY).is_file()
    rows: list[float] = []
    assert audit_all(model, both, ("algebra",), out=tmp_path, images=2, on_plan=rows.append) == audits and rows == [0]
    with pytest.raises(OutputError, match="something else"):
        audit_all(model, both, ("algebra",), out=tmp_path, images=2, concept="dog")
    one = audit_all(model, both, ("algebra",), out=tmp_path / "dog", images=2, concept="dog")
    assert one.audits[0].setting == audits.audits[1].setting and (tmp_path / "dog" / "audit.json").is_file()
    with pytest.raises(OutputError, match="something else"):
        audit_all(model, both, ("algebra",), out=tmp_path / "dog", images=2)
    audit_all(model, both, ("algebra",), out=tmp_path / "dog", images=2, anew=True)


# a LoRA of anybody's


def kohya(erasure: Erasure) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in erasure.tensors().items()}


def test_a_plain_lora_is_the_same_change_in_every_spelling(model, erasure, tmp_path):
    plain = kohya(erasure)
    names = erasure.file_names
    peft = {}
    for key, entry in erasure.entries.items():
        module = key.rpartition(".")[0]
        own = model.denoiser._wiring.names[key][0].rpartition(".")[0]
        tensors = entry.tensors()
        peft[f"unet.{own}.lora_B.weight"] = tensors[".lora_up.weight"].contiguous()
        peft[f"unet.{own}.lora_A.weight"] = tensors[".lora_down.weight"].contiguous()
        assert names[module] == "lora_unet_" + own.replace(".", "_")
    save_file(plain, tmp_path / "kohya.safetensors")
    save_file(peft, tmp_path / "peft.safetensors")
    for name in ("kohya", "peft"):
        path = tmp_path / f"{name}.safetensors"
        lora = read_lora(path, model.denoiser)
        assert is_plain(path) and lora.note == "" and lora.erasure.entries.keys() == erasure.entries.keys()
        for key, entry in lora.erasure.entries.items():
            assert torch.allclose(entry.delta(), erasure.entries[key].delta(), atol=1e-6)
    erasure.save(tmp_path / "ours.safetensors")
    assert not is_plain(tmp_path / "ours.safetensors")


def test_what_a_plain_lora_may_not_be_is_said(model, erasure, tmp_path):
    plain, path = kohya(erasure), tmp_path / "lora.safetensors"
    name = next(iter(plain)).partition(".")[0]

    def refused(tensors: dict[str, torch.Tensor], error: type[Exception], said: str) -> None:
        save_file(tensors, path)
        with pytest.raises(error, match=said):
            read_lora(path, model.denoiser)

    refused(
        {f"{name}.hada_w1_a": torch.ones(2, 2)}, FileFormatError, "of a kind that is not|of a kind that is read here"
    )
    refused({"lora_te_x.lora_up.weight": torch.ones(2, 2)}, FileFormatError, "changes no UNet")
    refused({f"{name}.lora_up.weight": torch.ones(2, 2)}, FileFormatError, "lacks its tensor")
    refused({**plain, f"{name}.lora_up.weight": plain[f"{name}.lora_up.weight"] * torch.nan}, FileFormatError, "finite")
    pair = {"lora_unet_other.lora_up.weight": torch.ones(2, 1), "lora_unet_other.lora_down.weight": torch.ones(1, 2)}
    refused(pair, RequestError, r"another kind of model: 1 of its 1 changes \(lora_unet_other")
    wide = {f"{name}.lora_up.weight": torch.ones(2, 1), f"{name}.lora_down.weight": torch.ones(1, 2)}
    refused(wide, RequestError, "another kind of model: 1 of its 1")
    save_file({**plain, "lora_te_x.lora_up.weight": torch.ones(2, 2)}, path)
    assert "also changes the text encoder (1 tensors)" in read_lora(path, model.denoiser).note


def test_a_plain_lora_is_refused_without_a_concept_and_audited_with_one(erasure, tmp_path, capsys):
    save_file(kohya(erasure), tmp_path / "lora.safetensors")
    call = [
        "audit",
        str(tmp_path / "lora.safetensors"),
        "--out",
        str(tmp_path / "out"),
        "--images",
        "2",
        "--steps",
        "4",
    ]
    call += ["--attacks", "algebra"]
    assert main(call) == 2 and "name that with --concept" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*call, "--concept", "church|chapel", "--anchor", "mosque"]) == 0
    said = json.loads((tmp_path / "out" / FILE).read_text(encoding="utf-8"))
    assert said["setting"]["concept"] == "a church" and said["setting"]["anchor"] == "a mosque"
    assert said["verdict"].startswith("'a church' comes back by 1 of 1 attacks: algebra")
    assert not sidecar_of(tmp_path / "lora.safetensors").exists()


def test_a_second_lora_is_put_on_top_by_settings_and_what_is_left_out_of_it_is_said(erasure, tmp_path):
    first, second, out = tmp_path / "church.safetensors", tmp_path / "lora.safetensors", tmp_path / "out"
    erasure.save(first)
    save_file({**kohya(erasure), "lora_te_x.lora_up.weight": torch.ones(2, 2)}, second)
    call = ["audit", str(first), "--out", str(out), "--images", "1", "--steps", "2", "--attacks", "settings"]
    for words, said in ((["--lora", str(second)], True), ([], False)):
        assert main([*call, *words, "--force"]) == 0
        found = json.loads((out / FILE).read_text(encoding="utf-8"))
        assert ("a second LoRA" in [row["label"] for row in found["attacks"][0]["rows"]]) == said
        assert (
            found["note"] == "The second LoRA also changes the text encoder (1 tensors). That part was left out here."
        ) == said
    assert main([*call, "--lora", str(second)]) == 2  # another audit than the one that is there


def test_words_are_given_only_where_the_file_is_silent(erasure):
    with pytest.raises(RequestError, match="leave the anchor out"):
        target_of(erasure, None, "castle")
    silent = Erasure(erasure.entries, erasure.file_names, erasure.family, "")
    target, kept = target_of(silent, "church | chapel", "mosque")
    assert (target.concept, target.anchor, target.synonyms, kept) == ("church", "mosque", ("chapel",), ())


# what is put beside an erasure


def test_the_figures_are_put_beside_the_erasure_and_told(erasure, tmp_path):
    path = tmp_path / "church.safetensors"
    erasure.save(path)
    before, own = path.read_bytes(), load_erasure(path).hash()
    sidecar_of(path).write_text(
        json.dumps(
            {"schema": "concept-eraser-evaluation-1", "erasure_hash": own, "suites": {"pocket": {"tables": []}}}
        ),
        encoding="utf-8",
    )
    assert "audit" not in about(path) and audit_verdict(path, own) == ""
    back = found("a church", "comes back", 15)
    write_beside(path, own, Audits(name="church", verdict="'a church' comes <b>back</b>.", audits=(back,)))
    known = json.loads(sidecar_of(path).read_text(encoding="utf-8"))
    SidecarRecord.model_validate(known)
    assert set(known["suites"]) == {"pocket", "audit"} and path.read_bytes() == before
    (row,) = known["suites"]["audit"]["tables"][0]["rows"]
    assert (
        row["name"] == "words: x"
        and row["cells"]["erased"]["n"] == 16
        and row["cells"]["answer"]["text"] == "comes back"
    )
    assert "audit" in about(path) and "'a church' comes <b>back</b>." in about(path)
    share(path, tmp_path / "shared")
    card = (tmp_path / "shared" / "README.md").read_text(encoding="utf-8")
    assert "An audit tried to bring it back: 'a church' comes \\<b\\>back\\</b\\>." in card
    assert audit_verdict(path, "another") == ""
    sidecar_of(path).write_text("{", encoding="utf-8")
    assert audit_verdict(path, own) == ""


# cost, pictures, words


def test_the_forward_rows_that_are_said_beforehand_are_those_that_it_takes(model, erasure):
    from eraser_core.evaluation.attacks.case import GRADIENT

    case = case_of(model, erasure, images=1)
    case.plain(True), case.plain(False)
    for name in ("words", "negative", "settings", "algebra", "precision", "inpainting", "inversion"):
        rows = case.denoiser.rows
        before = rows.no_grad + GRADIENT * rows.grad
        assert isinstance(ATTACKS[name].run(case), list)
        taken = rows.no_grad + GRADIENT * rows.grad - before
        assert taken == pytest.approx(ATTACKS[name].rows(case), rel=0.15), name


def test_a_row_is_cut_out_of_a_grid_as_it_is():
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = [("first", torch.cat([images, images])), ("a much longer second", torch.cat([1 - images, images]))]
    sheet = grid(rows, ["untouched", "erased"], 2, native(images))
    cell = native(images)
    for number, (_, shown) in enumerate(rows):
        one = row_of(sheet, [label for label, _ in rows], number)
        top = one.height - cell
        first = one.crop((0, top, cell, top + cell)).resize((8, 8), Image.Resampling.NEAREST)
        seen = torch.from_numpy(np.array(first)).permute(2, 0, 1) / 255
        assert (seen - shown[0]).abs().max() < 0.01


def test_the_right_key_that_does_not_open_is_said_so():
    row = Row(label="x", way="with the right key", answer="not undone", erased=Share(hits=0, n=16), meant=True)
    other = Row(label="y", way="with no key", answer="not undone", erased=Share(hits=0, n=16))
    assert of_attack([row, other], 10).endswith("; not undone with the right key: 0 % of 16 pictures, though it should")
    opens = row.model_copy(update={"answer": "comes back", "erased": Share(hits=16, n=16)})
    assert of_attack([opens, other], 10).endswith("100 % of 16 pictures, as it should")


def test_the_summary_is_a_picture_of_the_strongest_ways(model, erasure, tmp_path: Path):
    audit_all(model, erasure, ("algebra", "precision"), out=tmp_path, images=2)
    with Image.open(tmp_path / SUMMARY) as sheet:
        assert sheet.height > 3 * 112  # its name, and two attacks
    assert (tmp_path / "pictures" / "by_name.png").is_file()
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert page.index("the strongest way of every attack") < page.index("<ul>")
