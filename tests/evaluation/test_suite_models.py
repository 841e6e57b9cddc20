"""The suites for big models, end to end on a tiny folder of their layout: every metric there is, and none."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from made_up import drawing, weights_like
from safetensors.torch import save_file
from tiny_folder import clip_folder, sd_folder

from eraser_core.__main__ import main
from eraser_core.commands.folder import results
from eraser_core.evaluation.metrics.classifier import Classifier, ResNet50
from eraser_core.evaluation.metrics.fid import pictures_in
from eraser_core.evaluation.metrics.perceptual import AlexNet, Lpips
from eraser_core.evaluation.suites.scorers import ALEXNET_FILE, CLIP_FOLDER, HEADS_FILE, INCEPTION_FILE, RESNET_FILE

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
    words = ["erase", "--model", str(model), "--method", "uce", "--concept", concept, "--anchor", "a wall", "--retain"]
    assert main([*words, "--images", "0", "--steps", "1", "--out", str(out)]) == 0
    return results(out, [concept]).erasure


def run(suite: str, model: Path, weights: Path, out: Path, *more: str) -> dict[str, dict]:
    words = ["benchmark", suite, "--model", str(model), "--weights", str(weights), "--out", str(out)]
    assert main([*words, *QUICK, *more]) == 0
    return {t["title"]: t for t in json.loads((out / "tables.json").read_text(encoding="utf-8"))["tables"]}


def ours(table: dict) -> dict[str, dict]:
    return {row["name"]: row["cells"] for row in table["rows"] if not row["quoted"]}


def test_imagenette_scores_its_pictures_as_resnet_does(model, weights, tmp_path, monkeypatch):
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
    assert "left out" not in (out / "report.html").read_text(encoding="utf-8")
    (out / "cosines.svg").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run("imagenette", model, weights, out, "--erasure", str(church), "--images", "1")
    assert (out / "maps.png").is_file() and not (out / "cosines.svg").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "cosines is left out" in page and page.count("pip install matplotlib") == 1 and "maps is left" not in page


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


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> Path:
    """The FID's network in its true size, with made-up weights, as torch-fidelity and as we are given them."""
    network = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="pip install -e '.[test]'")
    path = tmp_path_factory.mktemp("inception") / INCEPTION_FILE
    torch.save({}, path.with_suffix(".pth"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: None)
        empty = network.FeatureExtractorInceptionV3("shapes", ["2048"], str(path.with_suffix(".pth")))
    tensors = weights_like(empty.state_dict())
    torch.save(tensors, path.with_suffix(".pth"))
    save_file(tensors, path)
    return path


def files_of(out: Path, name: str) -> list[Path]:
    return sorted((out / "images" / name).iterdir())


def test_i2p_has_the_ner_of_nudenet_and_the_fid_of_torchmetrics_on_its_files(model, inception, tmp_path):
    nudenet = pytest.importorskip("nudenet", reason="pip install -e '.[test]'")
    metric = pytest.importorskip("torchmetrics.image.fid", reason="pip install -e '.[test]'")
    figure = erased(model, tmp_path / "figure", "a nude")
    prompts, out = tmp_path / "i2p.csv", tmp_path / "out"
    prompts.write_text(CSV + "a bath,13,7,\na beach,14,7,\n", encoding="utf-8")
    more = ["--prompts", str(prompts), "--erasure", str(figure)]
    before = ours(run("i2p", model, inception.parent, out, *more)["Evaluation on the nudity erasure setting"])
    assert before["untouched"]["NER-0.3"]["value"] == 0, "random weights have drawn a body"
    # What no random weights draw: a body among the untouched model's pictures. A new run scores the files that lie there.
    drawing("torso").resize((64, 64)).save(files_of(out, "untouched")[1])
    shutil.rmtree(out / "scores")
    found = ours(run("i2p", model, inception.parent, out, *more)["Evaluation on the nudity erasure setting"])
    detector = nudenet.NudeDetector()
    for name in ("untouched", "figure"):
        seen = [detector.detect(str(path)) for path in files_of(out, name)]
        for threshold in (0.3, 0.5, 0.7, 0.8):
            own = [any(d["class"].endswith("_EXPOSED") and d["score"] > threshold for d in one) for one in seen]
            assert found[name][f"NER-{threshold}"]["value"] == sum(own) / 4
    assert found["untouched"]["NER-0.3"]["value"] == 0.25
    theirs = metric.FrechetInceptionDistance(feature_extractor_weights_path=str(inception.with_suffix(".pth")))
    for name, real in (("untouched", True), ("figure", False)):
        images = torch.cat(list(pictures_in(out / "images" / name)))
        theirs.update((images * 255).round().to(torch.uint8), real=real)
    assert found["figure"]["FID"]["value"] == pytest.approx(float(theirs.compute()), rel=1e-3)
    assert found["figure"]["FID"]["value"] > 2 * before["figure"]["FID"]["value"]  # the body is far from all the rest


def test_a_suite_says_what_it_lacks(model, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["benchmark", "i2p", "--model", str(model), *out]) == 2
    assert "--prompts FILE" in capsys.readouterr().err
    assert main(["benchmark", "pocket", "--model", str(model), *out]) == 2
    assert "needs a pocket model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_knows_asks_the_classifier_and_clip_of_other_models(model, weights, capsys):
    words = ["knows", "--model", str(model), "--weights", str(weights), "--steps", "1", "--images", "2"]
    assert main([*words, "--concept", "church", "--artist", "Kilian Eng"]) == 0
    printed = capsys.readouterr().out
    assert "| church | no |" in printed and "| Kilian Eng | " in printed and "*Kilian Eng (quoted)*" in printed
    assert main([*words, "--concept", "a thing"]) == 2 and "no class of Imagenette" in capsys.readouterr().err
