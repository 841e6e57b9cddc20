"""Words of the host's own text encoders changed on their way in, as the engine changes those of the same checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import small_models
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tiny_checkpoints import SECOND_WIDTH, TEXT_WIDTH, UNETS, build, hugging_face, write_checkpoint

from eraser_core.backends.architecture import UNET
from eraser_core.backends.checkpoint import open_checkpoint
from eraser_core.backends.spelled import SpelledDenoiser
from eraser_core.backends.stored_model import Loading, read
from eraser_core.evaluation.attacks import search, token
from eraser_core.evaluation.attacks.denoising_loss import loss, noised

PROMPT, PHRASE = "a picture of a church", "a church"
# The tiny encoders have random weights, and the host computes attention by other kernels.
NEAR = {"rtol": 1e-3, "atol": 1e-4}


def narrow_clip(family: str) -> Any:
    """The host's CLIP of a tiny checkpoint's text encoders, as tensors that its loader makes under inference mode."""
    import comfy.sd
    import comfy.supported_models_base as base

    if family == "sdxl":
        from comfy.sdxl_clip import SDXLClipModel as Model
        from comfy.sdxl_clip import SDXLTokenizer as Tokenizer
    else:
        from comfy.sd1_clip import SD1ClipModel as Model
        from comfy.sd1_clip import SD1Tokenizer as Tokenizer
    sizes = {"num_hidden_layers": 3 if family == "sdxl" else 2, "num_attention_heads": 1}
    first = {"hidden_size": TEXT_WIDTH, "intermediate_size": 2 * TEXT_WIDTH, **sizes}
    second = {"hidden_size": SECOND_WIDTH, "intermediate_size": 2 * SECOND_WIDTH, **sizes, "num_attention_heads": 2}
    options = {"dtype": torch.float32, "clip_l_model_config": first, "clip_g_model_config": second}
    with torch.inference_mode():
        clip = comfy.sd.CLIP(base.ClipTarget(Tokenizer, Model), parameters=100, model_options=options)
        for name, part in (("clip_l", "text_encoder"), ("clip_g", "text_encoder_2")):
            if part in build(family):
                own = {n: p.clone() for n, p in hugging_face(build(family)[part]).items()}
                encoder = getattr(clip.cond_stage_model, name).transformer
                missing = encoder.load_state_dict(own, strict=False).missing_keys
                assert set(missing) <= {"text_projection.weight"}
    return clip


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pair(request: pytest.FixtureRequest, pack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(engine, host) denoisers of one tiny checkpoint."""
    from comfy.sd import VAE
    from comfy.taesd.taesd import TAESD
    from concept_eraser_pack.nodes.host.spelled import SpelledDenoiser as Hosts

    family = request.param
    path = write_checkpoint(tmp_path_factory.mktemp("spelled") / "m.safetensors", family)
    loading = Loading(size=64)
    stored = open_checkpoint(path, loading)
    weights = {n.removeprefix(UNET): stored.files.tensor(n) for n in stored.names.values()}
    narrow: dict[str, Any] = {"context_dim": UNETS[family]["cross_attention_dim"]}
    narrow |= {"adm_in_channels": SECOND_WIDTH + 6 * 256} if family == "sdxl" else {}
    model = small_models.model_of(family, weights, False, narrow)
    with torch.inference_mode(False), torch.enable_grad():
        vae = VAE(sd=TAESD(latent_channels=4).state_dict())
        host = Hosts(model, narrow_clip(family), vae)
        host._size_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]])  # the host's is the MODEL's own size
        yield read(stored, loading), host


def test_the_words_are_the_engines(pair: Any) -> None:
    engine, host = pair
    assert isinstance(engine, SpelledDenoiser) and engine.vocabulary == host.vocabulary
    assert torch.equal(engine.word_embeddings, host.word_embeddings)
    assert torch.equal(token.own(engine, PHRASE), token.own(host, PHRASE))
    for one, other in zip(
        (engine.encode([PROMPT]), engine.encode_changed([PROMPT], lambda e: e + 0.1)),
        (host.encode([PROMPT]), host.encode_changed([PROMPT], lambda e: e + 0.1)),
        strict=True,
    ):
        assert torch.allclose(one.tokens, other.tokens, **NEAR)
        assert one.pooled is None or torch.allclose(one.pooled, other.pooled, **NEAR)
    assert torch.equal(host.encode_changed([PROMPT, ""], lambda e: e).tokens, host.encode([PROMPT, ""]).tokens)


def test_the_gradient_at_a_word_is_the_engines(pair: Any) -> None:
    found = []
    for denoiser in pair:
        z_0 = torch.randn(2, *pair[0].latent_shape, generator=torch.Generator().manual_seed(0))
        seen = noised(denoiser, z_0, 2, torch.Generator().manual_seed(1))
        v = token.own(denoiser, PHRASE).requires_grad_()
        context = token.put(denoiser, [PROMPT], PHRASE, v).expand(2)
        found.append(torch.autograd.grad(loss(denoiser, seen, context, None), [v])[0])
    assert float(torch.nn.functional.cosine_similarity(*found, dim=0)) > 0.999 and found[0].abs().max() > 0
    words = []
    for denoiser in pair:
        seen = noised(denoiser, z_0, 2, torch.Generator().manual_seed(1))
        words.append(search.steepest(denoiser, seen, ["a", "a", "a"], PROMPT, 1, None))
    assert len(words[0]) == search.CANDIDATES and set(words[0]) == set(words[1])
