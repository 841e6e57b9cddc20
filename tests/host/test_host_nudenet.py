"""NudeNet Score: the detector's own figures, the threshold's logic, and pictures of every shape."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import graphs
import numpy as np
import pytest
import torch
from graphs import node
from host_client import Client, QueueError
from PIL import Image

from eraser_core.evaluation.metrics.nudity import nudity_scores


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    """A photograph with a face, shipped with scikit-image (NASA, public domain)."""
    skimage_data = pytest.importorskip("skimage.data")
    return Image.fromarray(skimage_data.astronaut())


@pytest.fixture(scope="module")
def nudity(pack: ModuleType) -> Any:
    pytest.importorskip("nudenet")
    from concept_eraser_pack.nodes import nudity

    return nudity


@pytest.fixture(scope="module")
def score(nudity: Any) -> Any:
    """The node's own function, with faces as the default classes."""
    from concept_eraser_pack.nodes.nudenet_score import NudeNetScore

    class Unheard(NudeNetScore):
        class hidden:
            unique_id = None

    def run(images: torch.Tensor, **values: Any) -> tuple[Any, ...]:
        inputs = {"classes": "own list", "own_classes": "FACE_FEMALE, FACE_MALE", "threshold": 0.3, "censor": "fill"}
        return Unheard.execute.__func__(Unheard, images=images, **{**inputs, **values}).args

    return run


def as_images(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture.convert("RGB")).astype(np.float32) / 255)[None]


def test_a_face_counts_when_faces_count(score: Any, astronaut: Image.Image) -> None:
    annotated, censored, *rates, scores, passed, text = score(as_images(astronaut))
    assert rates[0] == 1.0
    assert scores[0] > 0.3 and not passed
    assert "failed at 0.3" in text and "FACE_" in text
    assert not torch.equal(annotated, as_images(astronaut))
    assert float((censored == 0).all(-1).float().mean()) > float((as_images(astronaut) == 0).all(-1).float().mean())
    *_, exposed, passed, _ = score(as_images(astronaut), classes="the authors' eight")
    assert passed is (exposed[0] <= 0.3)
    _, untouched, *_ = score(as_images(astronaut), threshold=1.0)
    assert torch.equal(untouched, as_images(astronaut))


def test_the_figures_are_the_detectors_own_on_the_file(nudity: Any, astronaut: Image.Image, tmp_path: Path) -> None:
    astronaut.save(tmp_path / "astronaut.png")
    from nudenet import NudeDetector

    own = NudeDetector().detect(str(tmp_path / "astronaut.png"))
    ours = nudity.detect(astronaut)
    assert [(d.label, d.score, list(d.box)) for d in ours] == [(d["class"], d["score"], d["box"]) for d in own]
    swapped = Image.fromarray(np.asarray(astronaut)[:, :, ::-1].copy())
    assert [d.score for d in nudity.detect(swapped)] != [d["score"] for d in own]


def test_the_threshold_is_exceeded_not_met_and_other_classes_do_not_count(nudity: Any) -> None:
    detections = [
        nudity.Detection("FACE_FEMALE", 0.9, (0, 0, 4, 4)),
        nudity.Detection("BELLY_EXPOSED", 0.5, (0, 0, 4, 4)),
        nudity.Detection("ANUS_EXPOSED", 0.8, (0, 0, 4, 4)),
    ]
    scores = [nudity.top_score(detections, nudity.PRESETS[name]) for name in nudity.PRESETS]
    assert scores == [0.8, 0.5]
    counts = nudity_scores([detections, []], nudity.EXPOSED, (0.5, 0.8))
    assert counts.ner(0.5).value == 0.5
    assert counts.ner(0.8).value == 0
    assert nudity.top_score([], nudity.EXPOSED) == 0
    picture = Image.new("RGB", (8, 8), "white")
    hidden = nudity.censored(picture, detections, ("BELLY_EXPOSED",), 0.4, "fill")
    assert hidden.getpixel((0, 0)) == (0, 0, 0) and hidden.getpixel((7, 7)) == (255, 255, 255)
    assert nudity.censored(picture, detections, ("BELLY_EXPOSED",), 0.5, "fill").getpixel((0, 0)) == (255, 255, 255)


def test_a_missing_wheel_is_said_on_the_node_and_when_it_runs(
    nudity: Any, score: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concept_eraser_pack.nodes.nudenet_score import NudeNetScore

    assert "not installed" not in NudeNetScore.define_schema().description
    monkeypatch.setitem(sys.modules, "nudenet", None)
    nudity.detector.cache_clear()
    with pytest.raises(ValueError, match=r"python_embeded\\python.exe -m pip install nudenet"):
        score(torch.zeros((1, 8, 8, 3)))
    monkeypatch.setattr(nudity, "installed", lambda: False)
    assert "python -m pip install nudenet" in NudeNetScore.define_schema().description


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 64, 64, 4), (1, 2160, 3840, 3), (32, 16, 24, 3), (1, 8, 8, 1)])
def test_every_shape_gets_an_answer(score: Any, shape: tuple[int, ...]) -> None:
    annotated, censored, *_, scores, passed, _ = score(torch.full(shape, 0.5))
    assert annotated.shape == censored.shape == (*shape[:3], 3)
    assert len(scores) == shape[0] and passed is True


def test_an_empty_batch_and_an_unknown_class_are_said_in_words(score: Any) -> None:
    with pytest.raises(ValueError, match="holds no picture"):
        score(torch.zeros((0, 8, 8, 3)))
    with pytest.raises(ValueError, match="names FACES"):
        score(torch.zeros((1, 8, 8, 3)), own_classes="FACES")
    with pytest.raises(ValueError, match="names none"):
        score(torch.zeros((1, 8, 8, 3)), own_classes=" , ")


def test_the_node_shows_its_verdict_on_the_server(host: Client, nudity: Any) -> None:
    prompt = graphs.checkpoint() | graphs.picture("drawn", "a church", batch=2)
    values = {"classes": "any exposed body parts", "own_classes": "", "threshold": 0.5, "censor": "blur"}
    prompt |= {"score": node("ConceptEraser_NudeNetScore", images=["drawn.decoded", 0], **values)}
    prompt |= {"shown": node("PreviewImage", images=["score", 0])}
    outputs = host.run(prompt)
    assert outputs["score"]["text"][0].startswith("passed at 0.5; NER 0.3: 0.00")
    assert len(host.images(outputs, "shown")) == 2
    prompt["score"]["inputs"] |= {"classes": "own list", "own_classes": "NOBODY"}
    with pytest.raises(QueueError, match="names NOBODY"):
        host.run(prompt)
