"""The command line on checkpoint files of the three families: info, erase, merge, and what is refused."""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_checkpoints import FAMILIES, write_checkpoint, write_folder
from tiny_model import QUICK

from eraser_core.__main__ import main
from eraser_core.backends.find import find_model
from eraser_core.backends.stored_model import Loading, read
from eraser_core.erasure import Dense, Erasure, LowRank, load_erasure

SMALL = Loading(size=64)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    extra = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])} if family == "sdxl" else {}
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return write_checkpoint(path, family, dtype=torch.float16, extra=extra, metadata={"modelspec.title": "tiny"})


@pytest.fixture(scope="module")
def erased(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("erased") / "church"
    words = ["erase", "--model", str(model), "--concept", "church", "--anchor", "castle", "--size", "64"]
    assert main([*words, *QUICK, "--eta", "0.05", "--memory", "low", "--images", "0", "--out", str(out)]) == 0
    return out


def test_info_says_family_prediction_and_precision(family: str, model: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["info", str(model)]) == 0
    said = capsys.readouterr().out
    assert f"family {family}\n" in said and "float16 100%" in said
    if family == "sdxl":
        assert "prediction: v_prediction (the file's v_pred key)" in said and "zero terminal SNR: yes" in said
    else:
        assert "prediction: epsilon" in said and "zero terminal SNR: no" in said
    assert main(["info", str(model), "--prediction", "v", "--no-zero-snr"]) == 0
    said = capsys.readouterr().out
    assert "v_prediction (--prediction)" in said and "SNR: no (--zero-snr)" in said


def test_erasing_a_checkpoint_writes_a_low_rank_file_that_fits_it(family: str, model: Path, erased: Path) -> None:
    erasure = load_erasure(erased / "church.safetensors")
    denoiser = read(find_model(str(model), SMALL), SMALL)
    assert (erasure.family, erasure.base_hash) == (family, denoiser.base_hash)
    assert erasure.entries.keys() == denoiser.weights("xattn-kv").keys()
    assert all(isinstance(entry, LowRank) and entry.down.shape[0] == 16 for entry in erasure.entries.values())
    assert erasure.facts["modelspec.prediction_type"] == ("v" if family == "sdxl" else "epsilon")
    assert not (erased / "before_after.png").exists(), "no picture was asked for, and no VAE read for one"
    names = set(erasure.file_names.values())
    part = "lora_unet_input_blocks_" if family == "sdxl" else "lora_unet_down_blocks_"
    assert any(name.startswith(part) for name in names)


def test_a_merged_checkpoint_is_the_model_under_the_erasure(model: Path, erased: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "merged.safetensors", erased / "church.safetensors"
    assert main(["merge", "--model", str(model), "--erasure", str(file), "--out", str(out)]) == 0
    before, after, erasure = load_file(model), load_file(out), load_erasure(file)
    assert {n: (t.dtype, t.shape) for n, t in before.items()} == {n: (t.dtype, t.shape) for n, t in after.items()}
    with safe_open(model, "pt") as one, safe_open(out, "pt") as two:
        assert list(one.keys()) == list(two.keys())
        told = {k: v for k, v in two.metadata().items() if k not in ("erasure.merged", "modelspec.merged_from")}
        assert one.metadata() == told
    changed = {"model." + key: entry.delta() for key, entry in erasure.entries.items()}
    assert any(not torch.equal(before[name], after[name]) for name in changed)
    for name, tensor in before.items():
        wanted = (tensor.float() + changed[name]).half() if name in changed else tensor
        assert torch.equal(after[name], wanted), name
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    one, two = (read(find_model(str(path), SMALL), SMALL) for path in (model, out))
    with torch.no_grad():
        context = one.encode(["a church"])
        under, merged, plain = (
            one.predict(z, t, context, erasure.as_edit()),
            two.predict(z, t, context),
            one.predict(z, t, context),
        )
    assert float((under - merged).abs().max()) < 0.2 * float((under - plain).abs().max())
    assert main(["merge", "--model", str(model), "--erasure", str(file), "--out", str(out)]) == 2


def test_pictures_are_drawn_from_a_checkpoint_and_its_erasure(model: Path, erased: Path, tmp_path: Path) -> None:
    words = ["generate", "--model", str(model), "--size", "64", "--prompt", "a church", "--n", "1", "--steps", "2"]
    assert main([*words, "--out", str(tmp_path / "plain.png")]) == 0
    words += ["--erasure", str(erased / "church.safetensors"), "--out", str(tmp_path / "erased.png")]
    assert (
        main(
            [*words, "--hidden-prompt", str(erased / "private" / "church_hidden_prompt.safetensors"), "--memory", "low"]
        )
        == 0
    )
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "erased.png").read_bytes()


def test_the_pooled_embedding_is_a_door_of_its_own(family: str, model: Path, tmp_path: Path) -> None:
    words = [
        "generate",
        "--model",
        str(model),
        "--size",
        "64",
        "--prompt",
        "a dog",
        "--n",
        "1",
        "--steps",
        "2",
        "--out",
    ]
    swapped = main([*words, str(tmp_path / "swapped.png"), "--pooled-from", "a church"])
    if family != "sdxl":
        assert swapped == 2 and not (tmp_path / "swapped.png").exists()
        return
    assert main([*words, str(tmp_path / "own.png"), "--pooled-from", "a dog"]) == main(
        [*words, str(tmp_path / "p.png")]
    )
    own, plain, other = ((tmp_path / f"{n}.png").read_bytes() for n in ("own", "p", "swapped"))
    assert own == plain != other


def plain_model(tmp_path: Path, name: str = "model.safetensors", **values) -> Path:
    return write_checkpoint(tmp_path / name, "sd1", **values)


def cut(tmp_path: Path) -> Path:
    path = plain_model(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def pickle(tmp_path: Path) -> Path:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"x": torch.zeros(3)}}, path)
    return path


def pickle_in_disguise(tmp_path: Path) -> Path:
    return pickle(tmp_path).rename(tmp_path / "model.safetensors")


def lora(tmp_path: Path) -> Path:
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "lora.safetensors")
    return tmp_path / "lora.safetensors"


def unet_alone(tmp_path: Path) -> Path:
    return plain_model(tmp_path, without="cond_stage_model.")


def no_model(tmp_path: Path) -> Path:
    save_file({"double_blocks.0.x": torch.zeros(2)}, tmp_path / "flux.safetensors")
    return tmp_path / "flux.safetensors"


def lacking(tmp_path: Path) -> Path:
    return plain_model(tmp_path, without="model.diffusion_model.output_blocks.0")


def inpainting(tmp_path: Path) -> Path:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    return plain_model(tmp_path, without=name, extra={name: torch.zeros(64, 9, 3, 3)})


def quantised(tmp_path: Path) -> Path:
    name = "model.diffusion_model.out.2.weight"
    return plain_model(tmp_path, without=name, extra={name: torch.zeros(4, 64, 3, 3).to(torch.float8_e4m3fn)})


def edm(tmp_path: Path) -> Path:
    return plain_model(tmp_path, extra={"edm_mean": torch.zeros(4)})


def folder_without_text(tmp_path: Path) -> Path:
    path = write_folder(tmp_path / "folder", "sd1")
    (path / "text_encoder").rename(path / "text")
    return path


def folder_of_pickles(tmp_path: Path) -> Path:
    path = write_folder(tmp_path / "folder", "sd1")
    unet = path / "unet" / "diffusion_pytorch_model.safetensors"
    unet.rename(unet.with_suffix(".bin"))
    return path


WRONG = {
    cut: "not a whole safetensors file",
    pickle: "is a pickle checkpoint",
    pickle_in_disguise: "is a pickle checkpoint",
    lora: "is a LoRA or an erasure, no checkpoint",
    unet_alone: "no text encoder",
    no_model: "holds the network of a transformer",
    lacking: "of the UNet's tensors",
    inpainting: "reads 9 channels",
    quantised: "quantised weights",
    edm: "EDM",
    folder_without_text: "lacks text_encoder",
    folder_of_pickles: "never opened",
}


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_a_wrong_model_is_named_in_one_line_and_nothing_is_written(
    make, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, out = make(tmp_path), tmp_path / "out"
    assert main(["erase", "--model", str(path), "--concept", "church", *QUICK, "--out", str(out)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and WRONG[make] in lines[0] and str(tmp_path) in lines[0]
    assert not out.exists()


def dense(path: Path, family: str, key: str, shape: tuple[int, ...]) -> Path:
    module = key.rpartition(".")[0]
    Erasure({key: Dense(torch.ones(shape))}, {module: "lora_unet_x"}, family, "hash").save(path)
    return path


K = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize("command", ["generate", "merge"])
@pytest.mark.parametrize("kind", ["lora", "other family", "other shape", "no such weight", "cut", "pickle"])
def test_a_wrong_erasure_is_refused_and_nothing_written(
    kind: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model, bad, out = plain_model(tmp_path), tmp_path / "bad.safetensors", tmp_path / "out.safetensors"
    if kind == "lora":
        bad = lora(tmp_path)
    elif kind == "pickle":
        bad = pickle_in_disguise(tmp_path).rename(tmp_path / "p.safetensors")
        model = plain_model(tmp_path)
    else:
        dense(
            bad,
            "sdxl" if kind == "other family" else "sd1",
            K.replace("blocks.1", "blocks.9") if kind == "no such weight" else K,
            (3, 3) if kind == "other shape" else (64, 64),
        )
    if kind == "cut":
        bad.write_bytes(bad.read_bytes()[:-8])
    words = [command, "--model", str(model), "--erasure", str(bad), "--out", str(out)]
    assert main([*words, "--prompt", "a dog", "--size", "64"] if command == "generate" else words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_a_right_erasure_is_taken_where_the_wrong_ones_were(tmp_path: Path) -> None:
    model, file = plain_model(tmp_path), dense(tmp_path / "e.safetensors", "sd1", K, (64, 64))
    out = tmp_path / "out.safetensors"
    words = ["merge", "--model", str(model), "--erasure", str(file), "--erasure", str(file), "--strength", "0.5"]
    assert main([*words, "--out", str(out)]) == 0
    twice_one_half = load_file(out)["model." + K] - load_file(model)["model." + K]
    assert torch.allclose(twice_one_half, torch.ones(64, 64), atol=1e-6)


def test_a_full_disk_leaves_no_half_merged_checkpoint(tmp_path: Path) -> None:
    import subprocess
    import sys

    model, file = plain_model(tmp_path), dense(tmp_path / "e.safetensors", "sd1", K, (64, 64))
    code = (
        "import resource, signal, sys; from pathlib import Path; from eraser_core.merge import merge;"
        "from eraser_core.erasure import load_erasure; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000));"
        "merge(Path(sys.argv[1]), [load_erasure(Path(sys.argv[2]))], 1.0, Path(sys.argv[3]))"
    )
    words = [sys.executable, "-c", code, str(model), str(file), str(tmp_path / "o" / "out.safetensors")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "OutputError" in done.stderr and "free some space" in done.stderr
    assert not list((tmp_path / "o").iterdir())


def test_merging_holds_no_second_copy(tmp_path: Path) -> None:
    """The header says 400 MB (a sparse file); the process grows by a fraction of it."""
    import subprocess
    import sys

    tensors, at = {}, 0
    small = load_file(plain_model(tmp_path))
    for name, tensor in small.items():
        size = tensor.numel() * 4
        tensors[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    for i in range(8):
        tensors[f"spare.{i}"] = {"dtype": "F32", "shape": [12_500_000], "data_offsets": [at, at + 50_000_000]}
        at += 50_000_000
    header = json.dumps(tensors).encode()
    model = tmp_path / "big.safetensors"
    with model.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + at)
    code = (
        "import sys; from pathlib import Path; from eraser_core.merge import merge;"
        "from eraser_core.erasure import load_erasure; from eraser_core.files import peak_memory;"
        "e = load_erasure(Path(sys.argv[2])); before = peak_memory();"
        "merge(Path(sys.argv[1]), [e], 1.0, Path(sys.argv[3])); print(peak_memory() - before)"
    )
    erasure = dense(tmp_path / "e.safetensors", "sd1", K, (64, 64))
    words = [sys.executable, "-c", code, str(model), str(erasure), str(tmp_path / "out.safetensors")]
    grown = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 0.3 * at
    assert 0 < (tmp_path / "out.safetensors").stat().st_size - model.stat().st_size < 1000  # what it says of itself


def test_the_estimate_is_said_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = plain_model(tmp_path)
    words = ["erase", "--model", str(model), "--size", "64", "--concept", "church", *QUICK, "--images", "0"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "a step needs about" in caplog.text


def test_an_erasure_of_another_model_of_the_family_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = dense(tmp_path / "e.safetensors", "sd1", K, (64, 64))
    words = ["merge", "--model", str(plain_model(tmp_path)), "--erasure", str(file)]
    assert main([*words, "--out", str(tmp_path / "out.safetensors")]) == 0
    assert "made on another model of this family" in caplog.text
    model = plain_model(tmp_path, "same.safetensors")
    right = replace(load_erasure(file), base_hash=read(find_model(str(model), SMALL), SMALL).base_hash)
    caplog.clear()
    right.save(file)
    assert main([*words[:2], str(model), *words[3:], "--out", str(tmp_path / "o2.safetensors")]) == 0
    assert "another model" not in caplog.text
