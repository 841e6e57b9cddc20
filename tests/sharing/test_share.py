"""A shared folder: what is in it, what is never in it, what is refused, and that it is there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tiny_folder import pipeline_folder
from tiny_model import QUICK

from eraser_core import erase, open_model
from eraser_core.__main__ import main
from eraser_core.erasure import Dense, Erasure, LowRank, as_facts, load_erasure
from eraser_core.errors import EraserError, FileFormatError, OutputError
from eraser_core.evaluation.report.sidecar import sidecar_of
from eraser_core.files import read_tensors, write_json, write_tensors
from eraser_core.hidden_prompt import load_prompts
from eraser_core.sharing import folder
from eraser_core.sharing.card import Wishes
from eraser_core.sharing.share import Drawing, share

KEY_SEED = 918273645546372819
ALL = {"church.safetensors", "church.evaluation.json", "README.md", "before_after.png", "apply_a_shared_erasure.json"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A scored KPOP erasing with its hidden prompt; `church.safetensors` whatever the command calls it."""
    out = tmp_path_factory.mktemp("made")
    words = ["erase", "--concept", "church", "--anchor", "castle", "--no-check", "--images", "3", *QUICK]
    assert main([*words, "--key-seed", str(KEY_SEED), "--out", str(out / "run")]) == 0
    for path in (out / "run").rglob("*.safetensors"):
        hidden = "hidden_prompt.schema" in read_tensors(path)[1]
        path.rename(out / "run" / ("hidden.safetensors" if hidden else "church.safetensors"))
    return out / "run"


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


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


def test_no_byte_of_the_folder_is_the_hidden_prompts(run, tmp_path):
    png = PngInfo()
    png.add_text("workflow", json.dumps({"key_seed": KEY_SEED}), zip=True)  # as ComfyUI saves pictures
    with Image.open(run / "before_after.png") as picture:
        picture.load()
        picture.save(run / "before_after.png", pnginfo=png)
    assert found(run, run / "hidden.safetensors")  # it is all there where nothing is shared
    share(run / "church.safetensors", tmp_path / "shared")
    assert found(tmp_path / "shared", run / "hidden.safetensors") == []


@pytest.mark.parametrize("where", ["a file", "the card", "an erasure", "a picture"])
def test_a_hidden_prompt_that_is_put_there_would_be_found(run, tmp_path, where):
    out = tmp_path / "shared"
    share(run / "church.safetensors", out)
    if where == "a file":
        shutil.copy(run / "hidden.safetensors", out)
    elif where == "the card":
        (out / "README.md").write_text(f"seed {KEY_SEED}", encoding="utf-8")
    elif where == "an erasure":
        prompts, _ = load_prompts(run / "hidden.safetensors")
        write_tensors(out / "church.safetensors", {"x": prompts[0].tokens.half()}, {})
    else:
        png = PngInfo()
        png.add_text("workflow", str(KEY_SEED), zip=True)
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
    write_tensors(path, tensors, {**metadata, "workflow": json.dumps({"key_seed": KEY_SEED})})
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


def test_a_folder_in_use_is_kept(run, tmp_path):
    out = tmp_path / "shared"
    share(run / "church.safetensors", out)
    with pytest.raises(OutputError, match="in use"):
        share(run / "church.safetensors", out)
    (out / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        share(run / "church.safetensors", out, force=True)
    (out / "thesis.txt").unlink()
    (out / "README.md").write_text("# Mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"README\.md"):
        share(run / "church.safetensors", out, force=True)
    with pytest.raises(OutputError, match="is a file"):
        share(run / "church.safetensors", out / "README.md")
    with pytest.raises(OutputError, match="cannot write"):
        share(run / "church.safetensors", out / "README.md" / "below")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("broken", ["", "README.md", "renamed"])
def test_an_earlier_folder_goes_only_when_the_new_one_is_whole(run, tmp_path, monkeypatch, at_once, broken):
    """On systems where two folders can change places in one step, and where they cannot."""
    out = tmp_path / "shared"
    share(run / "church.safetensors", out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    if not at_once:
        monkeypatch.setattr(folder, "swapped", lambda one, other: False)
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if broken and (target.name == broken or (broken == "renamed" and self.name == ".shared.new.part")):
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    fails = bool(broken) and not (at_once and broken == "renamed")
    try:
        share(run / "church.safetensors", out, Wishes(author="Another"), force=True)
    except EraserError as error:
        assert fails and "cannot write" in str(error)
    else:
        assert not fails
    now = {p.name: p.read_bytes() for p in out.iterdir()}
    assert (now == before) == fails and ("Another" in now["README.md"].decode()) != fails
    assert {p.name for p in tmp_path.iterdir()} == {"run", "shared"}


def test_a_kill_between_two_renames_is_put_right_by_the_next_run(run, tmp_path):
    out = tmp_path / "shared"
    share(run / "church.safetensors", out, Wishes(author="First"))
    out.rename(tmp_path / ".shared.earlier.part")
    (tmp_path / ".shared.new.part").mkdir()
    with pytest.raises(OutputError, match="in use"):
        share(run / "church.safetensors", out)
    assert "First" in (out / "README.md").read_text(encoding="utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"run", "shared"}


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


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_a_link_to_a_folder_stays_one(run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for force in (False, True):
        share(run / "church.safetensors", tmp_path / "link", force=force)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "README.md").is_file()


def erasure_of(entry: LowRank | Dense, family: str, key: str = "diffusion_model.a.attn2.to_k.weight") -> Erasure:
    facts = as_facts({"targets": ["a `church`|x\n# y"], "anchor": [""], "retain": [], "method": "esd"})
    return Erasure({key: entry}, {key.rpartition(".")[0]: "lora_unet_a"}, family, "f" * 64, facts)


LOW = LowRank(torch.ones(4, 2), torch.ones(2, 4))
KINDS = {
    "low-rank sd1": (erasure_of(LOW, "sd1"), True),
    "low-rank sdxl": (erasure_of(LOW, "sdxl"), True),
    "dense sd1": (erasure_of(Dense(torch.ones(4, 4)), "sd1"), False),
    "low-rank elsewhere": (erasure_of(LOW, "sd1", "diffusion_model.a.conv.weight"), False),
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


def test_two_at_once_do_not_mix(run, tmp_path):
    with folder.held(tmp_path / "shared"), pytest.raises(OutputError, match="another run"):
        share(run / "church.safetensors", tmp_path / "shared")


def test_a_file_that_says_too_little_is_refused(tmp_path):
    Erasure({}, {}, "sd1", "", {}).save(tmp_path / "x.safetensors")
    with pytest.raises(FileFormatError, match="does not say its"):
        share(tmp_path / "x.safetensors", tmp_path / "shared")
