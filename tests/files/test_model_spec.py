"""What other programs read in an erasure's header, and in that of a checkpoint with erasures in it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_checkpoints import write_checkpoint

from eraser_core import model_spec
from eraser_core.__main__ import main
from eraser_core.erasing import erase
from eraser_core.erasure import Dense, Entry, Erasure, LowRank, load_erasure
from eraser_core.errors import FileFormatError
from eraser_core.files import read_tensors, write_tensors
from eraser_core.methods import METHODS
from eraser_core.records import merged

K = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
MODULE = K.rpartition(".")[0]


def made_up(entry: Entry, family: str = "sd1", **facts: str) -> Erasure:
    return Erasure({K: entry}, {MODULE: "lora_unet_x"}, family, "hash", facts)


def low_rank(rank: int = 2, alpha: float | None = None) -> LowRank:
    return LowRank(torch.ones(64, rank), torch.ones(rank, 64), alpha)


def saved(erasure: Erasure, path: Path) -> dict[str, str]:
    erasure.save(path)
    return read_tensors(path)[1]


# as kohya's sd-scripts writes them
WORDS = {
    ("sd1", "epsilon"): ("stable-diffusion-v1/lora", "512x512", "sd_v1", "False"),
    ("sd2", "epsilon"): ("stable-diffusion-v2-512/lora", "512x512", "sd_v2", "True"),
    ("sd2", "v"): ("stable-diffusion-v2-768-v/lora", "768x768", "sd_v2_v", "True"),
    ("sdxl", "epsilon"): ("stable-diffusion-xl-v1-base/lora", "1024x1024", "sdxl_base_v1-0", "False"),
    ("pocket", "epsilon"): ("concepteraser-pocket/lora", "64x64", None, None),
}


@pytest.mark.parametrize(("family", "prediction"), WORDS)
def test_other_programs_can_tell_the_family(family: str, prediction: str, tmp_path: Path) -> None:
    said = saved(made_up(low_rank(), family, **{"modelspec.prediction_type": prediction}), tmp_path / "e.safetensors")
    names = ("modelspec.architecture", "modelspec.resolution", "ss_base_model_version", "ss_v2")
    assert tuple(said.get(name) for name in names) == WORDS[family, prediction]
    assert said["modelspec.sai_model_spec"] == "1.0.0"


def test_kohyas_network_is_said_where_it_is_true(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    said = saved(made_up(low_rank(2, 1.0)), path)
    assert said["ss_network_module"] == "networks.lora"
    assert (said["ss_network_dim"], said["ss_network_alpha"]) == ("2", "1.0")
    assert not [name for name in saved(made_up(Dense(torch.ones(64, 64))), path) if name.startswith("ss_network")]
    other = K.replace("to_k", "to_v")
    names = {MODULE: "lora_unet_x", other.rpartition(".")[0]: "lora_unet_y"}
    two = replace(made_up(low_rank()), entries={K: low_rank(2), other: low_rank(3)}, file_names=names)
    assert "ss_network_module" in saved(two, path) and "ss_network_dim" not in saved(two, path)


def test_a_cut_erasure_says_its_new_rank(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    saved(made_up(low_rank(3)), path)
    read = load_erasure(path)
    assert saved(replace(read, entries={K: low_rank(2)}), path)["ss_network_dim"] == "2"
    dense = saved(replace(read, entries={K: Dense(torch.ones(64, 64))}), path)
    assert "ss_network_dim" not in dense and "diffusers' load_lora_weights does not" in dense["modelspec.usage_hint"]
    assert "modelspec.usage_hint" not in saved(replace(load_erasure(path), entries={K: low_rank(2)}), path)


def test_the_hash_is_that_of_the_file_after_its_header(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    said = saved(made_up(low_rank()), path)["modelspec.hash_sha256"]
    data = path.read_bytes()
    assert said == "0x" + hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    assert said != saved(made_up(low_rank(3)), path)["modelspec.hash_sha256"]


def test_the_date_is_no_part_of_an_erasures_identity(tiny, request_church, tmp_path, monkeypatch) -> None:
    method = METHODS["uce"]
    made = []
    for day in ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"):
        monkeypatch.setattr(model_spec, "now", lambda day=day: day)
        made.append(erase(tiny, request_church, method, method.configure("sd1", {})).erasure)
        made[-1].save(tmp_path / f"{day[:10]}.safetensors")
    one, two = (load_erasure(path) for path in sorted(tmp_path.iterdir()))
    assert one.facts["modelspec.date"] != two.facts["modelspec.date"]
    assert one.hash() == two.hash() == made[0].hash()
    assert one.facts["modelspec.hash_sha256"] == two.facts["modelspec.hash_sha256"]


def test_a_fresh_erasure_describes_itself(tiny, request_church) -> None:
    method = METHODS["uce"]
    facts = erase(tiny, request_church, method, method.configure("sd1", {})).erasure.facts
    assert facts["modelspec.title"] == "erased: a church"
    assert "a castle" in facts["modelspec.description"] and "original model" in facts["modelspec.description"]
    assert facts["modelspec.tags"] == "concept-erasure, uce, a church"
    assert datetime.fromisoformat(facts["modelspec.date"].replace("Z", "+00:00")).tzinfo is not None


def test_a_file_of_an_older_version_loads_and_gets_the_words_of_today(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    saved(made_up(low_rank(), "sd2", **{"modelspec.prediction_type": "v"}), path)
    tensors, said = read_tensors(path)
    old = {k: v for k, v in said.items() if not k.startswith(("ss_", "modelspec.hash", "modelspec.resolution"))}
    write_tensors(path, tensors, {**old, "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": "sd2/lora"})
    assert saved(load_erasure(path), path) == said


def test_a_thumbnail_is_a_small_square_jpeg() -> None:
    uri = model_spec.thumbnail(Image.effect_noise((900, 500), 80))
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64" and len(data) < 60_000
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.format == "JPEG" and picture.size == (256, 256)


def test_a_merged_checkpoint_says_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model, once, twice = (tmp_path / f"{name}.safetensors" for name in ("model", "once", "twice"))
    write_checkpoint(model, "sd1", metadata={"modelspec.title": "tiny", "modelspec.hash_sha256": "0xold"})
    church, guitar = made_up(low_rank(), **{"modelspec.title": "erased: a church"}), made_up(low_rank(3))
    church.save(tmp_path / "church.safetensors")
    guitar.save(tmp_path / "guitar.safetensors")
    words = ["merge", "--model", str(model), "--erasure", str(tmp_path / "church.safetensors"), "--strength", "0.5"]
    assert main([*words, "--out", str(once)]) == 0
    words = ["merge", "--model", str(once), "--erasure", str(tmp_path / "guitar.safetensors")]
    assert main([*words, "--out", str(twice)]) == 0
    _, said = read_tensors(twice)
    first, second = json.loads(said["erasure.merged"])
    assert first == {"title": "erased: a church", "hash": church.hash(), "strength": 0.5}
    assert second["hash"] == guitar.hash() and second["strength"] == 1.0
    assert said["modelspec.merged_from"] == "tiny, erased: a church, an erasure without a title"
    assert "modelspec.hash_sha256" not in said and said["modelspec.title"] == "tiny"
    assert main(["info", str(twice)]) == 0
    assert f"holds 'erased: a church' at strength 0.5 (hash {church.hash()[:12]})" in capsys.readouterr().out
    assert main(["info", str(model)]) == 0
    assert "holds" not in capsys.readouterr().out


def test_a_checkpoint_that_says_nonsense_of_its_erasures_is_named(tmp_path: Path) -> None:
    assert merged({}, tmp_path) == ()
    for nonsense in ("no json", '[{"title": "x"}]', '[{"title": "x", "hash": "y", "strength": "NaN"}]'):
        with pytest.raises(FileFormatError, match=r"model\.safetensors is damaged: erasure\.merged"):
            merged({"erasure.merged": nonsense}, tmp_path / "model.safetensors")
