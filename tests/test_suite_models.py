"""The suites for big models, end to end on a tiny folder of their layout: every metric there is, and none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from made_up import weights_like
from safetensors.torch import save_file
from tiny_folder import clip_folder, sd_folder

from eraser_core.__main__ import main
from eraser_core.evaluation.classifier import Classifier, ResNet50
from eraser_core.evaluation.fid import pictures_in
from eraser_core.evaluation.perceptual import AlexNet, Lpips
from eraser_core.evaluation.suites.metrics import ALEXNET_FILE, CLIP_FOLDER, HEADS_FILE, RESNET_FILE

CSV = 'prompt,sd_seed,sd_guidance_scale,without\n"a nude, in oil",11,7,"a figure"\na castle,12,7.5,\n'
QUICK = ["--steps", "1", "--maps", "1", "--batch", "8"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return sd_folder(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The metrics' files with made-up numbers in them."""
    path = tmp_path_factory.mktemp("weights")
    clip_folder(path / CLIP_FOLDER)
    save_file(weights_like(ResNet50().state_dict()), path / RESNET_FILE)
    save_file(weights_like(AlexNet().state_dict()), path / ALEXNET_FILE)
    sizes = (64, 192, 384, 256, 256)
    save_file({f"lin{i}.model.1.weight": torch.ones(1, c, 1, 1) for i, c in enumerate(sizes)}, path / HEADS_FILE)
    return path


def erased(model: Path, out: Path, concept: str) -> Path:
    words = ["erase", "--model", str(model), "--method", "uce", "--concept", concept, "--anchor", "a wall"]
    assert main([*words, "--images", "0", "--steps", "1", "--out", str(out)]) == 0
    return out / "erasure.safetensors"


def run(suite: str, model: Path, weights: Path, out: Path, *more: str) -> dict[str, dict]:
    words = ["benchmark", suite, "--model", str(model), "--weights", str(weights), "--out", str(out)]
    assert main([*words, *QUICK, *more]) == 0
    return {t["title"]: t for t in json.loads((out / "tables.json").read_text(encoding="utf-8"))["tables"]}


def ours(table: dict) -> dict[str, dict]:
    return {row["name"]: row["cells"] for row in table["rows"] if not row["quoted"]}


def test_imagenette_scores_its_pictures_as_resnet_does(model, weights, tmp_path):
    church = erased(model, tmp_path / "church", "church")
    out = tmp_path / "out"
    tables = run("imagenette", model, weights, out, "--erasure", str(church), "--images", "1")
    found = ours(tables["Erasing object-related concepts"])
    assert {"untouched: church", "church (no retain set)"} <= set(found)
    images = torch.cat(list(pictures_in(out / "images" / "church")))
    classes = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    rank = Classifier(weights / RESNET_FILE).ranks(images, classes)
    kept = torch.tensor([c != 497 for c in classes])
    assert found["church (no retain set)"]["PSR-1"]["value"] == pytest.approx(float((rank[kept] < 1).float().mean()))
    assert found["church (no retain set)"]["ESR-1"]["value"] == float(rank[classes.index(497)] >= 1)
    assert (out / "maps.png").is_file() and (out / "cosines.svg").is_file()


def test_artists_are_scored_by_clip_and_lpips_against_the_untouched_picture(model, weights, tmp_path):
    eng = erased(model, tmp_path / "eng", "kilian eng")
    out = tmp_path / "out"
    more = ["--erasure", str(eng), "--images", "1", "--artist", "Kilian Eng", "Kelly McKernan"]
    found = ours(run("artists", model, weights, out, *more)["Erasing artistic style concepts"])
    assert set(found) == {"untouched (Kilian Eng)", "eng (Kilian Eng)"}
    first, second = (torch.cat(list(pictures_in(out / "images" / name))) for name in ("untouched", "eng"))
    names = [sorted(p.name for p in (out / "images" / name).iterdir()) for name in ("untouched", "eng")]
    first = first[[names[0].index(name) for name in names[1]]]
    distances = Lpips(weights / ALEXNET_FILE, weights / HEADS_FILE).distances(first, second)
    assert found["eng (Kilian Eng)"]["erase LPIPS"]["value"] == pytest.approx(float(distances[:40].mean()), abs=1e-5)
    assert found["eng (Kilian Eng)"]["retain LPIPS"]["n"] == 40 and "erase CLIP" in found["untouched (Kilian Eng)"]


def test_a_missing_metric_is_named_and_the_rest_is_made_and_its_file_is_taken_up_later(
    model, weights, tmp_path, caplog
):
    prompts, out, none = tmp_path / "i2p.csv", tmp_path / "out", tmp_path / "none"
    prompts.write_text(CSV, encoding="utf-8")
    run("i2p", model, none, out, "--prompts", str(prompts))
    said = caplog.text
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in (said, page):
        assert "CLIP score is left out" in text and "openai/clip-vit-base-patch32" in text and str(none) in text
        assert "FID is left out" in text and "weights-inception-2015-12-05" in text
    if importlib.util.find_spec("nudenet") is None:
        assert "NudeNet is left out" in said and "pip install nudenet" in said
    pictures = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    tables = run("i2p", model, weights, out, "--prompts", str(prompts))
    cells = ours(tables["CLIP scores"])["untouched"]
    assert cells["Image vs prompt"]["n"] == 2 and cells["Image vs prompt without it"]["n"] == 1
    assert "CLIP score is left out" not in (out / "report.html").read_text(encoding="utf-8")
    assert {p: p.stat().st_mtime_ns for p in pictures} == pictures


def test_a_suite_says_what_it_lacks(model, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["benchmark", "i2p", "--model", str(model), *out]) == 2
    assert "--prompts FILE" in capsys.readouterr().err
    assert main(["benchmark", "pocket", "--model", str(model), *out]) == 2
    assert "needs the pocket model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_knows_asks_the_classifier_and_clip_of_other_models(model, weights, capsys):
    words = ["knows", "--model", str(model), "--weights", str(weights), "--steps", "1", "--images", "2"]
    assert main([*words, "--concept", "church", "--artist", "Kilian Eng"]) == 0
    printed = capsys.readouterr().out
    assert "| church | no |" in printed and "| Kilian Eng | " in printed and "*Kilian Eng (quoted)*" in printed
    assert main([*words, "--concept", "a thing"]) == 2 and "no class of Imagenette" in capsys.readouterr().err
