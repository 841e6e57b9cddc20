"""`erase` on the folder of a transformer: what is written, what is said, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_transformers import transformer_folder

from eraser_core import erase, open_reader
from eraser_core.__main__ import main
from eraser_core.backends.transformer_reader import TransformerReader
from eraser_core.erasure import load_erasure
from eraser_core.errors import RequestError

pytestmark = pytest.mark.usefixtures("few_general_words")


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformer_folder(tmp_path_factory.mktemp("model") / "flux", "flux1")


def words(model: Path, out: Path, *more: str) -> list[str]:
    return ["erase", "--method", "uce", "--model", str(model), "--concept", "church", "--out", str(out), *more]


def test_the_file_has_the_nodes_names_and_the_metrics_lie_beside_it(
    flux: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert main(words(flux, tmp_path / "out", "--anchor", "castle", "--images", "0")) == 0
    assert "is Flux.1; its text is read on cpu" in caplog.text and "no picture was drawn" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")) == [
        "church.safetensors",
        "metrics.json",
        "run.json",
    ]
    erasure = load_erasure(tmp_path / "out" / "church.safetensors")
    assert erasure.family == "flux1" and erasure.base_hash == open_reader(str(flux)).base_hash
    assert list(erasure.entries) == [
        "diffusion_model.txt_in.weight",
        "diffusion_model.vector_in.in_layer.weight",
    ]
    with safe_open(tmp_path / "out" / "church.safetensors", "pt") as file:
        assert "lora_unet_txt_in.lora_down.weight" in set(file.keys())
        assert file.metadata()["modelspec.prediction_type"] == "flow"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["targets"] == []


def test_pixarts_capitals_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = transformer_folder(tmp_path / "pixart", "pixart-sigma")
    for word, said in (("Church", True), ("church", False)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            typed = words(model, tmp_path / word, "--anchor", "castle", "--retain", "Dog")
            assert main([word if part == "church" else part for part in typed]) == 0
        assert ("makes capitals small" in caplog.text) is said


def test_an_anchor_and_what_is_kept_are_chosen_as_on_other_models(
    flux: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert main(words(flux, tmp_path / "out")) == 0
    assert "kept is the list of objects" in caplog.text and "erasing 'church', drawing" in caplog.text
    first = load_erasure(tmp_path / "out" / "church.safetensors")
    assert len(json.loads(first.fact("retain"))) > 50
    assert main(words(flux, tmp_path / "out")) == 2  # the folder is in use
    assert main(words(flux, tmp_path / "out", "--force", "--retain", "dog", "--seed", "1")) == 0
    second = load_erasure(tmp_path / "out" / "church.safetensors")
    assert json.loads(second.fact("retain")) == ["dog"] and second.hash() != first.hash()


def test_python_gives_what_the_command_line_gives(flux: Path, tmp_path: Path) -> None:
    assert main(words(flux, tmp_path / "out", "--anchor", "castle", "--retain", "dog", "--dtype", "fp16")) == 0
    model = open_reader(str(flux))
    result = erase(model, "church", "castle", ["dog"], method="uce")
    assert result.erasure.hash() == load_erasure(tmp_path / "out" / "church.safetensors").hash()
    assert erase(model, "church", "violin", ["dog"], method="uce").erasure.hash() != result.erasure.hash()
    with pytest.raises(RequestError, match="'kpop' has no closed form: choose uce, time, dp"):
        erase(model, "church", "castle", ["dog"])


REFUSED = {
    ("--method", "kpop"): "is Flux.1, on which the command line trains nothing: give --method uce, time or dp",
    ("--images", "4"): "--images says how a model is fetched, drawn with or trained",
    ("--imag", "4"): "--imag says how",
    ("--memory", "low"): "--memory says how",
    ("--key-seed", "1"): "--key-seed says how",
    ("--allow-download",): "--allow-download says how a model is fetched",
    ("--no-check",): "--no-check says how",
    ("--concept", "church " * 70): "closed forms look at 64: shorten",
    ("--anchor", "castle", "--retain", "dog " * 70): "closed forms look at 64: shorten",
    ("--layers", "k"): "neither K nor V alone",
    ("--directions", "2"): "directions",
    ("--concept", "church", "Church"): "is to be erased twice",
    ("--retain", "dog", "church"): "the retain set holds 'church'",
    ("--anchor", "Church"): "is the concept itself",
}


@pytest.mark.parametrize("more", REFUSED)
def test_what_has_no_meaning_here_is_refused_before_a_text_is_read(
    more: tuple[str, ...], flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(TransformerReader, "encode")
    assert main(words(flux, tmp_path / "out", *more)) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if REFUSED[more] in line]
    assert not (tmp_path / "out").is_dir() or not list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize(
    "command",
    ["generate --prompt dog", "knows --concept dog", "combine {e} --out {o}", "score --erasure {e}", "info {m}"],
)
def test_other_commands_say_what_works(command: str, flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(words(flux, tmp_path / "out", "--anchor", "castle", "--retain", "dog")) == 0
    made = tmp_path / "out" / "church.safetensors"
    filled = command.format(e=made, o=tmp_path / "new", m=flux).split()
    capsys.readouterr()
    assert main(filled if "info" in command else [*filled, "--model", str(flux)]) == 2
    assert (
        "of which the command line reads the text alone: `erase` with --method uce, time or dp"
        in capsys.readouterr().err
    )


BLOCK = "model.diffusion_model.double_blocks.0.img_attn.qkv.weight"


@pytest.mark.parametrize(
    "tensor",
    [
        *("txt_in.weight", BLOCK, "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"),
        *("transformer_blocks.0.attn.to_q.weight", "cap_embedder.1.weight", "text_embedding.0.weight"),
    ],
)
def test_a_single_file_of_these_families_is_refused_with_what_it_is(
    tensor: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "model.safetensors"
    save_file({tensor: torch.zeros(2, 2)}, file)
    assert main(words(file, tmp_path / "out")) == 2
    told = capsys.readouterr().err
    assert str(file) in told and "the network of a transformer" in told and "the folder in diffusers' layout" in told
    lora = tensor.removeprefix("model.diffusion_model.").replace(".weight", ".lora_A.weight")
    save_file({lora: torch.zeros(2, 2)}, file)
    assert main(words(file, tmp_path / "out")) == 2
    assert "is a LoRA or an erasure, no checkpoint" in capsys.readouterr().err


def test_merge_sends_no_transformer_back_to_where_it_came_from(
    flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(words(flux, tmp_path / "out", "--anchor", "castle", "--retain", "dog")) == 0
    file = tmp_path / "flux.safetensors"
    save_file({BLOCK: torch.zeros(2, 2)}, file)
    erasure = str(tmp_path / "out" / "church.safetensors")
    for model in (flux, file):
        capsys.readouterr()
        merged = ["merge", "--model", str(model), "--erasure", erasure, "--out", str(tmp_path / "new.safetensors")]
        assert main(merged) == 2
        told = capsys.readouterr().err
        assert "as a LoRA" in told and "ComfyUI" in told and "name a .safetensors checkpoint" not in told


def test_a_folder_of_neither_kind_is_refused(flux: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    copy = shutil.copytree(flux, tmp_path / "flux")
    (copy / "transformer").rename(copy / "elsewhere")
    assert main(words(copy, tmp_path / "out")) == 2
    assert "it lacks unet" in capsys.readouterr().err
