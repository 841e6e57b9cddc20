"""CLIP score against torchmetrics', on a tiny CLIP in a local folder."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from made_up import pictures
from transformers import CLIPConfig, CLIPModel

from eraser_core.errors import ModelError, RequestError
from eraser_core.evaluation.metrics.alignment import ClipScorer, _pillow_processor, clip_score

TEXTS = ["a photo of a church", "a dog", "a dog"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CLIP's real parts with random weights and a tokenizer of letters."""
    path = tmp_path_factory.mktemp("clip")
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), encoding="utf-8")
    (path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = transformers.CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"))
    text = {"vocab_size": len(words), "max_position_embeddings": 20, "bos_token_id": 52, "eos_token_id": 53}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text | size, vision_config=vision | size, projection_dim=16))
    for part in (model, tokenizer):
        part.save_pretrained(path)
    _pillow_processor()(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(path)
    return path


class Plain:
    """transformers 5 wraps features in an object, which torchmetrics up to 1.9 does not know."""

    def __init__(self, model):
        self.model, self.config = model, model.config

    def to(self, device):
        return self

    def get_image_features(self, pixels):
        found = self.model.get_image_features(pixels)
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    def get_text_features(self, ids, mask):
        found = self.model.get_text_features(ids, mask)
        return found if isinstance(found, torch.Tensor) else found.pooler_output


def test_the_score_is_torchmetrics(folder):
    multimodal = pytest.importorskip("torchmetrics.functional.multimodal", reason="pip install -e '.[test]'")
    images = pictures(3, 48, 40)
    processor = transformers.CLIPProcessor(
        image_processor=_pillow_processor().from_pretrained(folder),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder),
    )
    model = Plain(CLIPModel.from_pretrained(folder).eval())
    pixels = [(image * 255).round().to(torch.uint8) for image in images]
    scorer = ClipScorer(folder)
    scores = scorer.scores(images, [t[:8] for t in TEXTS])
    for i in range(3):
        alone = multimodal.clip_score(pixels[i], TEXTS[i][:8], lambda: (model, processor))
        assert max(scores[i].item(), 0) == pytest.approx(alone.item(), abs=1e-3)
    together = multimodal.clip_score(pixels, [t[:8] for t in TEXTS], lambda: (model, processor))
    assert clip_score(scores) == pytest.approx(together.item(), abs=1e-3)


def test_the_score_is_a_hundred_cosines(folder):
    scorer, images = ClipScorer(folder), pictures(3, 48, 40)
    seen, said = scorer.image_features(images), scorer.text_features(TEXTS)
    assert torch.allclose(seen.norm(dim=1), torch.ones(3)) and torch.allclose(said.norm(dim=1), torch.ones(3))
    expected = 100 * torch.nn.functional.cosine_similarity(seen, said)
    assert torch.allclose(scorer.scores(images, TEXTS), expected, atol=1e-4)
    # Batches, and other texts beside it, change nothing.
    assert torch.allclose(scorer.image_features(images, batch=1), seen, atol=1e-6)
    assert torch.allclose(scorer.text_features(TEXTS, batch=1), said, atol=1e-5)
    columns = scorer.columns(images, {"prompt": TEXTS, "concept": ["a church"] * 3})
    assert torch.equal(columns["prompt"], scorer.scores(images, TEXTS)) and list(columns) == ["prompt", "concept"]
    assert columns["concept"][1] != columns["prompt"][1]


def test_it_tells_apart_what_it_learnt(folder):
    """Control: a model whose features are tuned to two pairs prefers the right text, and noise loses the preference."""
    scorer, images = ClipScorer(folder), torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)])
    texts = ["a dog", "a church"]
    model = scorer._model
    seen, said = scorer.image_features(images), scorer.text_features(texts)
    with torch.no_grad():  # a text projection that takes each text's features to its picture's
        model.text_projection.weight.copy_(seen.T @ torch.linalg.pinv(said.T) @ model.text_projection.weight)
    right, wrong = scorer.scores(images, texts), scorer.scores(images, texts[::-1])
    assert (right > 99).all() and (right > wrong).all()
    assert (scorer.scores(pictures(2, 32, 32), texts) < right).all()


def test_a_mean_below_zero_is_shown_as_zero():
    assert clip_score(torch.tensor([-3.0, 1.0])) == 0 and clip_score(torch.tensor([20.0, 30.0])) == 25


def test_a_long_text_keeps_its_end(folder):
    scorer = ClipScorer(folder)
    long = "a photo of a church and a dog"  # more letters than the 18 that fit
    assert torch.allclose(scorer.text_features([long]), scorer.text_features([long + " in rain"]), atol=1e-6)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(ModelError, match=r"lacks config\.json, preprocessor_config\.json, the tokenizer .*the weights"):
        ClipScorer(tmp_path)
    for name in ("config.json", "preprocessor_config.json", "vocab.json", "merges.txt", "tokenizer.json"):
        if (folder / name).is_file():
            (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelError, match=r"lacks the weights.*Nothing is downloaded"):
        ClipScorer(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot load the CLIP model"):
        ClipScorer(tmp_path)
    with pytest.raises(RequestError, match="as many texts"):
        ClipScorer(folder).scores(pictures(2, 32, 32), ["a dog"])
