"""Erasure and hidden prompt files: what they hold, who can read them, what happens when they are damaged."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from tiny_model import settings, tiny_model

from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.erasing import erase
from eraser_core.erasure import check_fits, load_erasure
from eraser_core.errors import FileFormatError, OutputError, RequestError
from eraser_core.files import read_tensors, size_said, write_bytes, write_tensors
from eraser_core.hidden_prompt import load_prompts, save_prompts
from eraser_core.methods import METHODS


@pytest.fixture(scope="module")
def erased(tiny):
    from eraser_core.request import Request, Target

    return erase(
        tiny,
        Request((Target("a church", "a castle"),)),
        METHODS["kpop"],
        settings(retain_weight=0, confine=0),
        key_seed=1,
    )


def low_rank(tiny, request_church, **values):
    return erase(tiny, request_church, METHODS["kpop"], settings(rank=2, **values), key_seed=1)


def test_an_erasure_survives_its_file(tmp_path, erased):
    erased.erasure.save(tmp_path / "e.safetensors")
    read = load_erasure(tmp_path / "e.safetensors")
    assert read.hash() == erased.erasure.hash()
    assert read.entries.keys() == erased.erasure.entries.keys()
    assert read.facts["erasure.method"] == "kpop"


EVERY = {
    name: (name, {"pictures": 2, "context_age": 1} if name in ("robust", "locked") else {}) for name in METHODS
} | {"a text map of one rank": ("naive", {"tune": "text", "rank": 1})}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("case", EVERY)
def test_every_methods_erasure_can_be_saved_in_every_precision(tmp_path, tiny, request_church, case, dtype):
    name, values = EVERY[case]
    chosen = settings(name, **values) if METHODS[name].learner else METHODS[name].configure("sd1", {})
    erasure = erase(tiny, request_church, METHODS[name], chosen, key_seed=0, dtype=dtype).erasure
    erasure.save(tmp_path / "erasure.safetensors")
    assert load_erasure(tmp_path / "erasure.safetensors").hash() == erasure.hash()


def test_a_file_may_be_replaced_while_its_tensors_are_in_use(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {})
    (a,) = read_tensors(path)[0].values()
    with path.open("r+b") as file:  # in place: a view into the mapped file would follow
        file.seek(-12, 2)
        file.write(bytes(12))
    assert a.tolist() == [1, 1, 1] and read_tensors(path)[0]["a"].tolist() == [0, 0, 0]


def test_keys_are_kohyas(tmp_path, tiny, request_church, erased):
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.diff" in erased.erasure.tensors()
    low_rank(tiny, request_church).erasure.save(tmp_path / "r.safetensors")
    tensors, _ = read_tensors(tmp_path / "r.safetensors")
    base = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v"
    up, down = tensors[base + ".lora_up.weight"], tensors[base + ".lora_down.weight"]
    assert up.shape == (64, 2) and down.shape == (2, 32)
    assert tensors[base + ".alpha"] == 2
    assert torch.allclose(
        up.float() @ down.float(),
        load_erasure(tmp_path / "r.safetensors")
        .entries["diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"]
        .delta(),
    )


def test_biases_and_convolutions_come_through_a_file(tmp_path, tiny, request_church):
    for values in ({}, {"rank": 2}):
        result = erase(tiny, request_church, METHODS["naive"], settings("naive", tune="noxattn", **values))
        result.erasure.save(tmp_path / "n.safetensors")
        read = load_erasure(tmp_path / "n.safetensors")
        assert all(torch.equal(read.entries[k].delta(), e.delta()) for k, e in result.erasure.entries.items())
        check_fits(read, "pocket", tiny.all_weights())
    assert any(
        k.endswith(".bias")
        for k in erase(tiny, request_church, METHODS["naive"], settings("naive", tune="noxattn")).erasure.entries
    )


def test_what_a_run_returns_is_what_its_file_holds(erased):
    assert all(t.dtype == torch.float16 for t in erased.erasure.tensors().values())


def test_nothing_in_the_erasure_gives_the_prompt_away(tmp_path, tiny, request_church):
    result = erase(tiny, request_church, METHODS["kpop"], settings())
    result.erasure.save(tmp_path / "e.safetensors")
    save_prompts(tmp_path / "p.safetensors", result.prompts, result.key_seed, result.erasure.hash(), {})
    raw = (tmp_path / "e.safetensors").read_bytes()
    assert str(result.key_seed).encode() not in raw
    assert str(result.key_seed).encode() in (tmp_path / "p.safetensors").read_bytes()
    assert result.prompts[0].tokens[0, :4].numpy().tobytes() not in raw


def test_a_hidden_prompt_survives_its_file(tmp_path, erased):
    save_prompts(tmp_path / "p.safetensors", erased.prompts, 1, "h", {})
    prompts, metadata = load_prompts(tmp_path / "p.safetensors")
    assert torch.equal(prompts[0].tokens, erased.prompts[0].tokens)
    assert (prompts[0].concept, prompts[0].mechanism) == ("a church", "concatenative")
    assert metadata["hidden_prompt.erasure_hash"] == "h"


@pytest.mark.parametrize("damage", ["half", "empty", "text", "missing"])
def test_a_damaged_file_is_named(tmp_path, erased, damage):
    path = tmp_path / "e.safetensors"
    erased.erasure.save(path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello " * 50}[damage])
    with pytest.raises(FileFormatError, match=r"e\.safetensors"):
        load_erasure(path)


def test_a_lora_is_no_erasure_and_an_erasure_no_prompt(tmp_path, erased):
    from safetensors.torch import save_file

    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(FileFormatError, match="LoRA loader"):
        load_erasure(tmp_path / "lora.safetensors")
    erased.erasure.save(tmp_path / "e.safetensors")
    with pytest.raises(FileFormatError, match="no hidden prompt"):
        load_prompts(tmp_path / "e.safetensors")


@pytest.mark.parametrize("lost", ["erasure.keys", "erasure.family", "erasure.base_hash"])
def test_an_erasure_whose_metadata_was_cut_is_refused_in_words(tmp_path, erased, lost):
    erased.erasure.save(tmp_path / "e.safetensors")
    tensors, metadata = read_tensors(tmp_path / "e.safetensors")
    write_tensors(tmp_path / "cut.safetensors", tensors, {k: v for k, v in metadata.items() if k != lost})
    with pytest.raises(FileFormatError, match=lost):
        load_erasure(tmp_path / "cut.safetensors")


def test_an_erasure_of_another_architecture_does_not_fit(erased):
    other = PocketDenoiser(tiny_model(width=64))
    with pytest.raises(RequestError, match="differ in shape"):
        check_fits(erased.erasure, "pocket", other.all_weights())
    with pytest.raises(RequestError, match="'sd1'"):
        check_fits(erased.erasure, "sd1", {})


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    write_bytes(path, b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from eraser_core.files import write_bytes;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "write_bytes(Path(sys.argv[1]), b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "OutputError" in done.stderr and "free some space" in done.stderr
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_file_in_the_place_of_a_folder_is_an_output_error(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot write"):
        write_bytes(tmp_path / "f" / "g", b"")


def test_metadata_hold_the_settings_and_no_key_seed(tmp_path, erased):
    erased.erasure.save(tmp_path / "e.safetensors")
    _, metadata = read_tensors(tmp_path / "e.safetensors")
    assert json.loads(metadata["erasure.settings"])["lambda"] == 0.3
    assert "key_seed" not in " ".join(metadata)


@pytest.mark.parametrize(("count", "said"), [(16_644, "17 KB"), (165_768, "0.2 MB"), (1_090_000, "1.1 MB")])
def test_a_size_is_said_as_people_read_it(count, said):
    assert size_said(count) == said
