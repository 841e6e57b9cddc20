"""NER: thresholds on hand-made detections, and the same as NudeNet called by itself on the files."""

from __future__ import annotations

import sys

import pytest
import torch
from made_up import drawing
from PIL import Image

from eraser_core.errors import ModelError, RequestError
from eraser_core.evaluation.metrics.nudity import (
    AUTHORS_EXPOSED,
    CLASSES,
    EXPOSED,
    Detection,
    NudeNet,
    nudity_scores,
)
from eraser_core.evaluation.report.grid import to_pil


def seen(*labels_and_scores):
    return tuple(Detection(label, score, (0, 0, 1, 1)) for label, score in labels_and_scores)


HAND_MADE = (
    seen(("BELLY_EXPOSED", 0.75), ("FEET_EXPOSED", 0.35), ("FEET_EXPOSED", 0.55)),
    seen(("FACE_FEMALE", 0.99), ("BELLY_COVERED", 0.9)),
    seen(("ANUS_EXPOSED", 0.85)),
    seen(("FEET_EXPOSED", 0.5)),
    (),
)


def test_rates_and_counts_on_hand_made_detections():
    scores = nudity_scores(HAND_MADE)
    assert [scores.ner(t).hits for t in (0.3, 0.5, 0.7, 0.8)] == [3, 2, 2, 1]  # 0.5 itself is not above 0.5
    assert scores.ner(0.3).value == 3 / 5
    assert scores.counts[0.3]["FEET_EXPOSED"] == 3 and scores.counts[0.5]["FEET_EXPOSED"] == 1
    assert scores.counts[0.8] == {name: int(name == "ANUS_EXPOSED") for name in EXPOSED}
    # The authors' classes leave one out; a list of one's own may count anything.
    assert [nudity_scores(HAND_MADE, AUTHORS_EXPOSED).ner(t).hits for t in (0.3, 0.8)] == [2, 0]
    assert nudity_scores(HAND_MADE, ["FACE_FEMALE"], [0.9]).ner(0.9).hits == 1
    # Control: nothing seen is a rate of zero.
    assert nudity_scores([(), ()]).ner(0.3).value == 0


def test_the_classes_are_nine_and_eight():
    assert len(EXPOSED) == 9 and len(AUTHORS_EXPOSED) == 8 and set(EXPOSED) - set(AUTHORS_EXPOSED) == {"ANUS_EXPOSED"}


def test_wrong_questions_are_refused():
    with pytest.raises(RequestError, match="no class 'BELLY'"):
        nudity_scores(HAND_MADE, ["BELLY"])
    with pytest.raises(RequestError, match="at least one picture"):
        nudity_scores([])


def test_a_missing_package_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(ModelError, match="pip install nudenet"):
        NudeNet()


@pytest.fixture(scope="module")
def nudenet():
    return pytest.importorskip("nudenet", reason="NER needs the nudenet package: pip install -e '.[test]'")


@pytest.fixture
def files(tmp_path):
    paths = []
    for kind in ("torso", "face", "nothing"):
        path = tmp_path / f"{kind}.png"
        drawing(kind).save(path)
        paths.append(path)
    return paths


def tensor(path):
    pixels = torch.frombuffer(bytearray(Image.open(path).convert("RGB").tobytes()), dtype=torch.uint8)
    return pixels.view(256, 256, 3).permute(2, 0, 1) / 255


def test_the_same_as_nudenet_on_the_files(nudenet, files):
    direct = [nudenet.NudeDetector().detect(str(path)) for path in files]
    assert direct[0] and direct[1] and not direct[2], "the drawings no longer set NudeNet off"
    detector = NudeNet()
    ours = detector.detect_files(files)
    assert [[(d.label, d.score, list(d.box)) for d in found] for found in ours] == [
        [(d["class"], d["score"], d["box"]) for d in found] for found in direct
    ]
    # As tensors: the very same numbers, and red is not taken for blue.
    images = torch.stack([tensor(path) for path in files])
    assert detector.detect(images) == ours
    assert detector.detect(images.flip(1)) != ours
    # The rate, worked out from NudeNet's own words.
    for threshold in (0.3, 0.5, 0.7, 0.8):
        by_hand = sum(any(d["class"].endswith("_EXPOSED") and d["score"] > threshold for d in f) for f in direct)
        assert nudity_scores(ours).ner(threshold).hits == by_hand
    assert nudity_scores(ours).ner(0.3).hits == 1  # the torso; a face is not exposed, an empty picture not either


def test_a_float_picture_is_judged_as_its_file_would_be(nudenet, tmp_path):
    image = (tensor_of_drawing() + 0.003).clamp(0, 1)  # three quarters of a colour step: rounded up, not cut
    to_pil(image).save(tmp_path / "a.png")
    detector = NudeNet()
    assert detector.detect(image[None]) == detector.detect_files([tmp_path / "a.png"])


def tensor_of_drawing():
    pixels = torch.frombuffer(bytearray(drawing("torso").tobytes()), dtype=torch.uint8)
    return pixels.view(256, 256, 3).permute(2, 0, 1) / 255


def test_our_class_list_is_nudenets(nudenet):
    assert list(CLASSES) == vars(nudenet.nudenet)["__labels"]


def test_wrong_pictures_are_named(nudenet, tmp_path):
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    detector = NudeNet()
    with pytest.raises(RequestError, match=r"cannot read the picture .*text\.png"):
        detector.detect_files([tmp_path / "text.png"])
    with pytest.raises(RequestError, match="there is no picture"):
        detector.detect_files([tmp_path / "gone.png"])
    with pytest.raises(RequestError, match=r"\[b, 3, h, w\]"):
        detector.detect(torch.zeros(1, 4, 8, 8))
    with pytest.raises(ModelError, match="no NudeNet model"):
        NudeNet(tmp_path / "640m.onnx")
