"""A shared folder: what is in it, what is never in it, what is refused, and that it is there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from eraser_core import open_model
from eraser_core.__main__ import main
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.errors import FileFormatError
from eraser_core.evaluation.report.sidecar import sidecar_of
from eraser_core.files import read_tensors, write_json, write_tensors
from eraser_core.hidden_prompt import load_prompts
from eraser_core.sharing import folder
from eraser_core.sharing.share import Drawing, share

ALL = {"church.safetensors", "church.evaluation.json", "README.md", "before_after.png", "apply_a_shared_erasure.json"}


def secrets(hidden: Path) -> dict[str, bytes]:
    """What must not be found anywhere: every hidden prompt's numbers in three precisions, its key seed, its hash."""
    prompts, metadata = load_prompts(hidden)
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    numbers = {
        f"prompt {i} as {kind}": p.tokens[0].to(kind).view(torch.uint8).numpy().tobytes()
        for i, p in enumerate(prompts)
        for kind in kinds
    }
    said = {name: metadata[f"hidden_prompt.{name}"].encode() for name in ("key_seed", "tensors_hash")}
    return numbers | said


def found(where: Path, hidden: Path) -> list[str]:
    """Which secrets some byte of the folder's files gives away, PNG's texts unpacked."""
    blobs = {p.name: p.read_bytes() for p in where.rglob("*") if p.is_file()}
    for path in where.rglob("*.png"):
        with Image.open(path) as picture:
            blobs[f"texts of {path.name}"] = repr(getattr(picture, "text", {})).encode()
    return [
        f"{what} in {name}" for name, blob in blobs.items() for what, data in secrets(hidden).items() if data in blob
    ]


def test_the_folder_holds_everything_and_the_card_says_it(run, tmp_path):
    out = tmp_path / "shared"
    words = ["share", str(run / "church.safetensors"), "--licence", "apache-2.0", "--author", "An Author", "--out"]
    assert main([*words, str(out)]) == 0
    assert {p.name for p in out.iterdir()} == ALL
    assert load_erasure(out / "church.safetensors").hash() == load_erasure(run / "church.safetensors").hash()
    card = ModelCard((out / "README.md").read_text(encoding="utf-8"))
    assert card.data.license == "apache-2.0" and "concept-erasure" in card.data.tags
    assert card.data.library_name == "concept-eraser"  # diffusers does not know the pocket model
    for said in (
        "made to stop",
        "a church",
        "a castle",
        "kpop",
        "An Author",
        "n = 3",
        "Apply Sanitized UNet",
        "not in this folder",
    ):
        assert said in card.text, said
    (row,) = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["targets"]
    low, high = row["psr1_interval"]
    assert f"{100 * row['psr1']:.1f} \\[{100 * low:.1f}, {100 * high:.1f}\\], n = 3" in card.text
    shared = json.loads(sidecar_of(out / "church.safetensors").read_text(encoding="utf-8"))
    assert shared["erasure_hash"] == load_erasure(out / "church.safetensors").hash()


def test_the_workflow_has_the_files_own_name(run, tmp_path):
    share(run / "church.safetensors", tmp_path / "shared")
    graph = json.loads((tmp_path / "shared" / folder.WORKFLOW).read_text(encoding="utf-8"))
    values = {node["type"]: node.get("widgets_values") for node in graph["nodes"]}
    assert values["ConceptEraser_LoadErasure"] == ["church.safetensors"]
    assert values["CheckpointLoaderSimple"] == ["pocket.safetensors"]
    assert "erased_church_00001_" not in json.dumps(graph)


def test_no_byte_of_the_folder_is_the_hidden_prompts(run, tmp_path, key_seed):
    png = PngInfo()
    png.add_text("workflow", json.dumps({"key_seed": key_seed}), zip=True)  # as ComfyUI saves pictures
    with Image.open(run / "before_after.png") as picture:
        picture.load()
        picture.save(run / "before_after.png", pnginfo=png)
    assert found(run, run / "hidden.safetensors")  # it is all there where nothing is shared
    share(run / "church.safetensors", tmp_path / "shared")
    assert found(tmp_path / "shared", run / "hidden.safetensors") == []


@pytest.mark.parametrize("where", ["a file", "the card", "an erasure", "a picture"])
def test_a_hidden_prompt_that_is_put_there_would_be_found(run, tmp_path, where, key_seed):
    out = tmp_path / "shared"
    share(run / "church.safetensors", out)
    if where == "a file":
        shutil.copy(run / "hidden.safetensors", out)
    elif where == "the card":
        (out / "README.md").write_text(f"seed {key_seed}", encoding="utf-8")
    elif where == "an erasure":
        prompts, _ = load_prompts(run / "hidden.safetensors")
        write_tensors(out / "church.safetensors", {"x": prompts[0].tokens.half()}, {})
    else:
        png = PngInfo()
        png.add_text("workflow", str(key_seed), zip=True)
        Image.new("RGB", (8, 8)).save(out / "before_after.png", pnginfo=png)
    assert found(out, run / "hidden.safetensors")


def test_without_a_picture_and_figures_the_card_says_so_and_a_model_makes_them(run, tmp_path):
    bare = tmp_path / "bare" / "church.safetensors"
    bare.parent.mkdir()
    shutil.copy(run / "church.safetensors", bare)
    share(bare, tmp_path / "without")
    text = (tmp_path / "without" / "README.md").read_text(encoding="utf-8")
    assert "no picture" in text and "no figures" in text
    assert {p.name for p in (tmp_path / "without").iterdir()} == ALL - {"before_after.png", "church.evaluation.json"}
    words = ["share", str(bare), "--model", "pocket", "--images", "2", "--steps", "2", "--out", str(tmp_path / "with")]
    assert main(words) == 0
    text = (tmp_path / "with" / "README.md").read_text(encoding="utf-8")
    assert "no picture" not in text and "n = 2" in text
    assert {p.name for p in (tmp_path / "with").iterdir()} == ALL


def give_the_hidden_prompt(run: Path) -> Path:
    return run / "hidden.safetensors"


def cut_the_file(run: Path) -> Path:
    path = run / "church.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return path


def put_anothers_figures(run: Path) -> Path:
    said = {"schema": "concept-eraser-evaluation-1", "erasure_hash": "0" * 64, "suites": {}}
    write_json(sidecar_of(run / "church.safetensors"), said)
    return run / "church.safetensors"


def put_anothers_metrics(run: Path) -> Path:
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    metrics["targets"][0]["erase"] = "guitar"
    write_json(run / "metrics.json", metrics)
    return run / "church.safetensors"


def name_a_file_of_somewhere_else(run: Path) -> Path:
    own = load_erasure(run / "church.safetensors").hash()
    suites = {"pocket": {"tables": [], "grid": "../secret.png"}}
    said = {"schema": "concept-eraser-evaluation-1", "erasure_hash": own, "suites": suites}
    write_json(sidecar_of(run / "church.safetensors"), said)
    return run / "church.safetensors"


def end_it_otherwise(run: Path) -> Path:
    return (run / "church.safetensors").rename(run / "church.lora")


def write_the_key_seed_into_it(run: Path) -> Path:
    path = run / "church.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "workflow": json.dumps({"key_seed": 5})})
    return path


def cut_the_picture(run: Path) -> Path:
    path = run / "before_after.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return run / "church.safetensors"


REFUSED = {
    "is a hidden prompt": give_the_hidden_prompt,
    "is not a whole safetensors file": cut_the_file,
    "figures of another erasure": put_anothers_figures,
    "figures of another erasing": put_anothers_metrics,
    "only a PNG beside it": name_a_file_of_somewhere_else,
    "something of a hidden prompt": write_the_key_seed_into_it,
    "no whole PNG": cut_the_picture,
    "programs list LoRAs that end in": end_it_otherwise,
    "there is no file": lambda run: run / "nothing.safetensors",
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_must_not_be_shared_is_refused_and_nothing_is_written(run, tmp_path, capsys, said):
    path = REFUSED[said](run)
    assert main(["share", str(path), "--out", str(tmp_path / "shared")]) == 2
    assert said in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_suites_name_leads_nowhere(run, tmp_path):
    own = load_erasure(run / "church.safetensors").hash()
    suites = {"../../pocket": {"tables": [], "grid": "before_after.png"}}
    said = {"schema": "concept-eraser-evaluation-1", "erasure_hash": own, "suites": suites}
    write_json(sidecar_of(run / "church.safetensors"), said)
    names = share(run / "church.safetensors", tmp_path / "shared")
    assert "church.evaluation.pocket.png" in names
    assert {p.name for p in (tmp_path / "shared").iterdir()} == set(names)
    share(run / "church.safetensors", tmp_path / "shared", force=True)  # it knows its own grids


def test_a_file_that_is_written_anew_meanwhile_is_not_shared_half_and_half(run, tmp_path):
    (run / "before_after.png").unlink()

    def opened():
        os.utime(run / "church.safetensors", ns=(1, 1))
        return open_model("pocket", steps=2)

    with pytest.raises(FileFormatError, match="meanwhile"):
        share(run / "church.safetensors", tmp_path / "shared", drawing=Drawing(opened))
    assert not (tmp_path / "shared").exists()


def test_a_file_that_says_too_little_is_refused(tmp_path):
    Erasure({}, {}, "sd1", "", {}).save(tmp_path / "x.safetensors")
    with pytest.raises(FileFormatError, match="does not say its"):
        share(tmp_path / "x.safetensors", tmp_path / "shared")
