"""A wrong call ends with code 2 and one sentence, before the model predicts anything, and leaves every file as it was."""

from __future__ import annotations

import logging
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from bad_calls import CALLS
from safetensors.torch import save_file
from tiny_checkpoints import write_checkpoint

from eraser_core import models
from eraser_core.__main__ import main
from eraser_core.backends.diffusers import DiffusersDenoiser
from eraser_core.erasing import erase
from eraser_core.erasure import Erasure, LowRank
from eraser_core.hidden_prompt import HiddenPrompt, save_prompts
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target


class WorkBegan(Exception):
    """The network was asked for a prediction."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the calls, with every file that the table names."""
    where = tmp_path_factory.mktemp("calls")
    model = models.open_model("pocket")
    request = Request((Target("a guitar", "a violin"),), ("a drum",))
    erasure = erase(model.denoiser, request, METHODS["uce"], METHODS["uce"].settings()).erasure
    erasure.save(where / "erasure.safetensors")
    save_file({k: t.contiguous() for k, t in erasure.tensors().items()}, where / "lora.safetensors")
    replace(erasure, base_hash="0" * 64).save(where / "elsewhere.safetensors")
    tokens = torch.randn(2, 192)
    for name, of, width in (("prompt", erasure.hash(), 192), ("others", "0" * 64, 192), ("wide", erasure.hash(), 768)):
        hidden = HiddenPrompt("a guitar", tokens.repeat(1, width // 192), "concatenative", 16)
        save_prompts(where / f"{name}.safetensors", [hidden], 1, of, {})
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k"
    small = {key + ".weight": LowRank(torch.randn(320, 2), torch.randn(2, 768))}
    Erasure(small, {key: "lora_unet_x"}, "sd1", "0" * 64).save(where / "foreign.safetensors")
    (where / "cut.safetensors").write_bytes((where / "erasure.safetensors").read_bytes()[:5000])
    (where / "text").write_text("chapter one", encoding="utf-8")
    (where / "folder").mkdir()
    (where / "folder" / "novel").write_text("chapter two", encoding="utf-8")
    write_checkpoint(where / "model.safetensors", "sd1")
    return where


@pytest.fixture
def calls(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """In that folder; the pocket model is read once, and a prediction is the end of the call."""

    def predict(*_: object) -> None:
        raise WorkBegan

    monkeypatch.chdir(place)
    monkeypatch.setattr(models, "load_pocket_denoiser", cache(models.load_pocket_denoiser))
    monkeypatch.setattr(models, "load_judge", cache(models.load_judge))
    monkeypatch.setattr(DiffusersDenoiser, "predict", predict)
    # As `python -m eraser_core`: warnings go to standard error too.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    yield place


def words(call: str, place: Path) -> list[str]:
    names = {path.name.partition(".")[0]: str(path) for path in place.iterdir()}
    return [word.format(**names) if "{" in word else word for word in shlex.split(call)]


def state(place: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(place)): p.read_bytes() if p.is_file() else None for p in sorted(place.rglob("*"))}


def judged(
    argv: list[str], piece: str, place: Path, before: dict[str, bytes | None], said: str, code: int
) -> list[str]:
    """What is wrong with how a call ended."""
    errors = [line for line in said.splitlines() if "error: " in line]
    faults = []
    if code != 2:
        faults.append(f"code {code}")
    if len(errors) != 1 or piece.lower() not in errors[0].lower():
        faults.append(f"said {said[-400:]!r}, expected one sentence with {piece!r}")
    if "Traceback" in said:
        faults.append("a traceback")
    if state(place) != before:
        faults.append("files changed")
    return faults


def ended(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    try:
        code = main(argv)
    except SystemExit as error:  # argparse's own
        code = int(error.code or 0)
    except WorkBegan:
        code = -1
    return code, capsys.readouterr().err


@pytest.mark.parametrize("group", range(8))
def test_wrong_calls_are_refused_in_one_sentence(calls: Path, capsys: pytest.CaptureFixture[str], group: int) -> None:
    before, faults = state(calls), []
    for call, piece in CALLS[group::8]:
        argv = words(call, calls)
        try:
            code, said = ended(argv, capsys)
        except Exception as error:  # whatever comes out raw is what this test looks for
            code, said = -2, f"raised {error!r}"
        faults += [f"{call}: {fault}" for fault in judged(argv, piece, calls, before, said, code)]
        for new in set(state(calls)) - set(before):
            path = calls / new
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    assert not faults, "\n".join(faults)


def test_there_are_a_hundred_of_them() -> None:
    assert len({call for call, _ in CALLS}) == len(CALLS) >= 100


def test_the_judge_sees_a_file_a_traceback_a_code_and_two_sentences(calls: Path) -> None:
    """The control: each way to answer badly is a fault."""
    before, argv = state(calls), ["erase"]
    good = "error: name what to erase"
    assert not judged(argv, "name what", calls, before, good, 2)
    assert judged(argv, "name what", calls, before, good, 0)
    assert judged(argv, "another", calls, before, good, 2)
    assert judged(argv, "name what", calls, before, f"{good}\n{good}", 2)
    assert judged(argv, "name what", calls, before, f"Traceback\n{good}", 2)
    (calls / "left").write_text("", encoding="utf-8")
    assert judged(argv, "name what", calls, before, good, 2)
    (calls / "left").unlink()


def test_a_right_call_reaches_the_network(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The control of the table: nothing refuses what is right."""
    for call in ("generate --model pocket --prompt 'a guitar' --out new.png", "knows --model pocket --concept guitar"):
        assert ended(words(call, calls), capsys)[0] == -1
