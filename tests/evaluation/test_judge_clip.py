"""judge-CLIP on real drawings: what fits scores above what does not, and noise fits nothing."""

from __future__ import annotations

import pytest
import torch
from made_up import pictures

from eraser_core.pocket import load_concepts, load_judge, load_pocket
from eraser_core.pocket.drawings import drawings
from eraser_core.pocket.judge_clip import JudgeClip, Towers, load_judge_clip

# In the order of drawings.json; all of them drawn by the pocket model, and no look-alikes of one another.
OBJECTS = ("church", "guitar", "truck", "dog", "camera", "mushroom", "crown", "soccer ball")


@pytest.fixture(scope="module")
def encode():
    return load_pocket().encode_text


@pytest.fixture(scope="module")
def scorer(encode):
    return load_judge_clip(load_judge(), encode)


def own_and_others(scorer, images, texts):
    """[texts, texts]: the mean score of a row's pictures with a column's text."""
    return torch.stack(
        [torch.stack([scorer.columns(i, {"t": [text] * len(i)})["t"].mean() for text in texts]) for i in images]
    )


def test_a_drawing_fits_its_own_object_better_than_the_others(scorer):
    concepts = load_concepts()
    texts = [f"image of {concepts.get(name).phrase}" for name in OBJECTS]
    found = own_and_others(scorer, [drawings(name) for name in OBJECTS], texts)
    assert found.argmax(1).tolist() == list(range(len(OBJECTS)))
    others = found[~torch.eye(len(OBJECTS), dtype=torch.bool)]
    assert found.diagonal().min() > others.mean() + 20


def test_a_drawing_fits_its_own_style_better_than_the_others(scorer):
    styles = load_concepts().styles
    images = [torch.stack([drawings(name)[s] for name in OBJECTS]) for s in range(len(styles))]
    found = own_and_others(scorer, images, [f"an image in {style} style" for style in styles])
    assert found.argmax(1).tolist() == list(range(len(styles)))


def test_noise_fits_no_prompt_as_a_drawing_does(scorer):
    text = {"t": ["image of a church"] * 6}
    assert scorer.columns(pictures(6, 64, 64, 1), text)["t"].max() < scorer.columns(drawings("church"), text)["t"].min()


def test_untrained_towers_tell_nothing_apart(encode):
    """The control: what the figures above come from is the training, not the two networks beneath."""
    torch.manual_seed(0)
    untrained = JudgeClip(load_judge(), encode, Towers().eval())
    concepts = load_concepts()
    texts = [f"image of {concepts.get(name).phrase}" for name in OBJECTS]
    found = own_and_others(untrained, [drawings(name) for name in OBJECTS], texts)
    assert (found.argmax(1) == torch.arange(len(OBJECTS))).float().mean() < 0.5


def test_the_score_is_the_cosine_of_the_two_towers(scorer):
    images, texts = drawings("church"), ["a church"] * 6
    cosine = torch.nn.functional.cosine_similarity(scorer.image_features(images), scorer.text_features(texts))
    assert torch.allclose(scorer.columns(images, {"prompt": texts})["prompt"], 100 * cosine, atol=1e-4)
    assert scorer.name == "judge-CLIP"
