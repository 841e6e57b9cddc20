"""Words of Stable Diffusion's text encoders changed on their way in: gradients reach them, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_checkpoints import write_checkpoint
from torch import Tensor

from eraser_core.backends.checkpoint import open_checkpoint
from eraser_core.backends.spelled import SpelledDenoiser
from eraser_core.backends.stored_model import Loading, read
from eraser_core.evaluation.attacks import token

PROMPT = "a picture of a church"


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def denoiser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SpelledDenoiser:
    path = write_checkpoint(tmp_path_factory.mktemp("spelled") / "m.safetensors", request.param)
    loading = Loading(size=64, memory="low")
    found = read(open_checkpoint(path, loading), loading)
    assert isinstance(found, SpelledDenoiser)
    return found


def test_what_is_not_changed_is_read_as_it_was(denoiser: SpelledDenoiser) -> None:
    read_as, own = denoiser.encode_changed([PROMPT, ""], lambda e: e), denoiser.encode([PROMPT, ""])
    assert torch.equal(read_as.tokens, own.tokens)
    assert (own.pooled is None) == (denoiser.family != "sdxl") == (read_as.pooled is None)
    assert own.pooled is None or torch.equal(read_as.pooled, own.pooled)
    changed = denoiser.encode_changed([PROMPT], lambda e: e + 1)
    assert not torch.equal(changed.tokens[:1], own.tokens[:1])
    assert torch.equal(denoiser.encode([PROMPT + " "]).tokens, own.tokens[:1])  # the hooks are gone


def test_the_vocabulary_is_whole_words_by_their_numbers(denoiser: SpelledDenoiser) -> None:
    words, embeddings = denoiser.vocabulary, denoiser.word_embeddings
    assert len(words) == len(embeddings) and "church" in words and words[-1] == words[-2] == ""
    i = words.index("church")
    assert torch.equal(token.own(denoiser, "a church"), embeddings[i])
    assert not torch.equal(token.own(denoiser, "a tree"), embeddings[i])


def test_a_word_is_put_in_place_of_the_phrases_last_token(denoiser: SpelledDenoiser) -> None:
    own = denoiser.encode([PROMPT])
    same = token.put(denoiser, [PROMPT], "a church", token.own(denoiser, "a church"))
    assert torch.allclose(same.tokens, own.tokens, atol=1e-6)
    tree = token.put(denoiser, [PROMPT], "a church", token.own(denoiser, "a tree"))
    assert torch.allclose(tree.tokens, denoiser.encode(["a picture of a tree"]).tokens, atol=1e-5)


def gradient(denoiser: SpelledDenoiser, scale: float) -> Tensor:
    """Of a loss so small as a denoising loss is, at one word."""
    v = token.own(denoiser, "a church").requires_grad_()
    found = token.put(denoiser, [PROMPT], "a church", v).tokens
    target = torch.sin(torch.arange(found.numel())).reshape(found.shape)
    (of_v,) = torch.autograd.grad(scale * (found * target).mean(), [v])
    return of_v


def test_in_half_precision_a_small_gradient_is_not_lost(denoiser: SpelledDenoiser) -> None:
    exact = gradient(denoiser, 1e-3)
    assert exact.abs().max() > 0
    encoder = denoiser._spelled._ready()
    models = [part for name, part in vars(encoder).items() if isinstance(part, torch.nn.Module)]
    assert models
    try:
        for model in models:
            model.half()
        found = gradient(denoiser, 1e-3)
        cosine = torch.nn.functional.cosine_similarity(found, exact, dim=0)
        assert float(cosine) > 0.99 and 0.9 < float(found.norm() / exact.norm()) < 1.1
    finally:
        for model in models:
            model.float()


def test_whoever_learns_words_keeps_the_encoders_and_others_let_them_go(tmp_path: Path) -> None:
    path, loading = write_checkpoint(tmp_path / "m.safetensors", "sd1"), Loading(size=64, memory="low")
    found = read(open_checkpoint(path, loading), loading)
    assert isinstance(found, SpelledDenoiser)
    text = found._spelled
    found.encode([PROMPT])
    text.release()
    assert text._encoder is None
    found.encode_changed([PROMPT], lambda e: e)
    text.release()
    assert text._encoder is not None
