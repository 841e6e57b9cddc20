"""The host's MODEL behind the engine's seam: the same numbers as the engine's own loader, and the model unharmed."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from eraser_core.backends.pocket import load_pocket_denoiser
from eraser_core.edits import make_edit
from eraser_core.erasure import FrozenEdit
from eraser_core.errors import ModelError, RequestError
from eraser_core.hidden_prompt import extend

PROMPTS = ("a church", "a church in ink style", "")


@pytest.fixture(scope="module")
def checkpoint(comfy: ModuleType, pack: ModuleType) -> tuple[Any, Any, Any]:
    with torch.inference_mode():  # as the host runs its nodes
        return comfy.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")


@pytest.fixture(scope="module")
def denoiser(pack: ModuleType, checkpoint: tuple[Any, Any, Any]) -> Any:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    return HostDenoiser(checkpoint[0], checkpoint[1], 64, 64)


@pytest.fixture(scope="module")
def engine(pocket_file: Any) -> Any:
    return load_pocket_denoiser(pocket_file)


def inputs(generator: int = 0, b: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    z_t = torch.randn((b, 8, 8, 8), generator=torch.Generator().manual_seed(generator))
    return z_t, torch.tensor([1, 500, 999][:b])


def test_native_predictions_equal_the_engines(denoiser: Any, engine: Any) -> None:
    z_t, t = inputs()
    with torch.no_grad():
        ours, theirs = (d.predict(z_t, t, d.encode(PROMPTS)) for d in (denoiser, engine))
    assert float((ours - theirs).abs().max()) < 1e-4
    with torch.no_grad():
        other = engine.predict(z_t, t, engine.encode(("a castle", "a castle", "a castle")))
    assert float((ours - other).abs().max()) > 1e-2  # the comparison can fail


def test_the_facts_equal_the_engines(denoiser: Any, engine: Any) -> None:
    assert (denoiser.family, denoiser.base_hash) == (engine.family, engine.base_hash)
    assert denoiser.latent_shape == engine.latent_shape
    assert denoiser.tokens_per_chunk == engine.tokens_per_chunk
    assert denoiser.schedule.prediction == engine.schedule.prediction
    torch.testing.assert_close(denoiser.schedule.alphas_cumprod, engine.schedule.alphas_cumprod, rtol=1e-6, atol=0)
    for prompt in PROMPTS:
        assert denoiser.token_count(prompt) == engine.token_count(prompt)
    for tune in ("xattn-kv", "xattn", "noxattn"):
        shapes = [{k: tuple(w.shape) for k, w in d.weights(tune).items()} for d in (denoiser, engine)]
        assert shapes[0] == shapes[1]
    for tune in ("xattn-kv", "xattn"):  # low-rank starts are drawn in this order
        assert list(denoiser.weights(tune)) == list(engine.weights(tune))
    names = engine.file_names()
    tuned = {key.rpartition(".")[0] for key in engine.weights("noxattn") | engine.weights("xattn")}
    assert {m: denoiser.file_names()[m] for m in tuned} == {m: names[m] for m in tuned}


def test_contexts_with_extra_tokens_and_edits_give_the_engines_gradients(denoiser: Any, engine: Any) -> None:
    z_t, t = inputs()
    p = torch.randn((4, 192), generator=torch.Generator().manual_seed(3))
    found = []
    for d in (denoiser, engine):
        with torch.inference_mode(False), torch.enable_grad():
            edit = make_edit(d, "xattn-kv", 2, torch.Generator().manual_seed(1))
            out = d.predict(z_t, t, extend(d.encode(PROMPTS), p, "concatenative", d.tokens_per_chunk), edit)
            (out**2).mean().backward()
            found.append([parameter.grad for parameter in edit.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


def test_the_model_is_as_it_was_after_training_forwards(
    comfy: ModuleType, denoiser: Any, checkpoint: tuple[Any, Any, Any]
) -> None:
    before = {k: w.clone() for k, w in checkpoint[0].model.diffusion_model.state_dict().items()}
    z_t, t = inputs()
    with torch.inference_mode(False):
        delta = {k: torch.ones_like(w) for k, w in denoiser.weights("xattn-kv").items()}
        with torch.no_grad():
            edited = denoiser.predict(z_t, t, denoiser.encode(PROMPTS), FrozenEdit(delta))
            plain = denoiser.predict(z_t, t, denoiser.encode(PROMPTS))
    assert not torch.allclose(edited, plain)
    after = checkpoint[0].model.diffusion_model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_lora_on_the_model_belongs_to_the_teacher(
    pack: ModuleType, denoiser: Any, checkpoint: tuple[Any, Any, Any]
) -> None:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    key = next(iter(denoiser.weights("xattn-kv")))
    patched = checkpoint[0].clone()
    patched.add_patches({key: ("diff", (torch.full(denoiser.weights("xattn-kv")[key].shape, 0.1),))}, 1.0)
    with torch.inference_mode(False), torch.no_grad():
        z_t, t = inputs()
        with_lora = HostDenoiser(patched, checkpoint[1], 64, 64)
        assert with_lora.base_hash == denoiser.base_hash
        there = with_lora.predict(z_t, t, with_lora.encode(PROMPTS))
        torch.testing.assert_close(
            there,
            denoiser.predict(z_t, t, denoiser.encode(PROMPTS), FrozenEdit({key: torch.tensor(0.1)})),
            rtol=1e-4,
            atol=1e-5,
        )
        denoiser.release()
        assert not torch.allclose(there, denoiser.predict(z_t, t, denoiser.encode(PROMPTS)))


def test_unknown_words_long_prompts_and_odd_sizes_are_refused_in_words(
    pack: ModuleType, denoiser: Any, checkpoint: tuple[Any, Any, Any]
) -> None:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    with pytest.raises(RequestError, match="does not know the word 'zeppelin'"):
        denoiser.encode(["a zeppelin"])
    with pytest.raises(RequestError, match="shorten it"):
        denoiser.encode(["a church " * 20])
    with pytest.raises(RequestError, match="divide by 8"):
        HostDenoiser(checkpoint[0], checkpoint[1], 65, 64)


def test_quantised_weights_and_foreign_models_are_refused_in_words(
    pack: ModuleType, checkpoint: tuple[Any, Any, Any]
) -> None:
    from concept_eraser_pack.nodes.host import model as host_model

    quantised = checkpoint[0].clone()
    config = quantised.model.model_config
    config.scaled_fp8 = torch.float8_e4m3fn
    try:
        with pytest.raises(ModelError, match="quantised"):
            host_model.weights(quantised)
    finally:
        config.scaled_fp8 = None
    host_model.weights(quantised)

    class QuantizedTensor(torch.Tensor):
        """Claims to be floats, as newer hosts' do."""

    claims = quantised.clone()
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    weight = host_model.weights(quantised)[key].as_subclass(QuantizedTensor)
    claims.get_key_patches = lambda prefix: {key: [(weight, None)]}
    with pytest.raises(ModelError, match="quantised \\(QuantizedTensor\\)"):
        host_model.weights(claims)
    config.concept_eraser_family = None
    try:
        with pytest.raises(ModelError, match="Supported are Stable Diffusion"):
            host_model.family(quantised)
    finally:
        del config.concept_eraser_family


def test_models_that_a_host_streams_through_memory_are_held_whole_or_refused_in_words(
    pack: ModuleType, checkpoint: tuple[Any, Any, Any]
) -> None:
    """What hosts with dynamic VRAM do, which runs on NVIDIA alone: the three kinds of `clone` that there are."""
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    def denoiser(clone: Any) -> Any:
        model = checkpoint[0].clone()
        model.is_dynamic, model.clone = (lambda: True), clone
        return HostDenoiser(model, checkpoint[1], 64, 64)

    def no_such_word() -> Any:
        raise AssertionError("cloned as it is")

    def unusual_loader(disable_dynamic: bool = False) -> Any:
        raise RuntimeError("cached_patcher_init is not initialized")

    with torch.inference_mode(False):
        z_t, t = inputs(b=1)
        with pytest.raises(ModelError, match="update ComfyUI, or start it with --disable-dynamic-vram"):
            denoiser(no_such_word).load()
        with pytest.raises(ModelError, match="load it with Load Checkpoint or Load Diffusion Model"):
            denoiser(unusual_loader).load()
        whole = denoiser(lambda disable_dynamic=False: checkpoint[0].clone() if disable_dynamic else None)
        with torch.no_grad():
            assert whole.predict(z_t, t, whole.encode(["a church"])).isfinite().all()


def test_rows_that_do_not_fit_at_once_are_taken_in_turn(denoiser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    z_t, t = inputs()
    with torch.inference_mode(False):
        with torch.no_grad():
            whole = denoiser.predict(z_t, t, denoiser.encode(PROMPTS))
            monkeypatch.setattr(denoiser, "rows_at_once", 2)
            forwards: list[int] = []
            monkeypatch.setattr(denoiser, "on_forward", lambda rows: forwards.append(rows.no_grad))
            torch.testing.assert_close(denoiser.predict(z_t, t, denoiser.encode(PROMPTS)), whole, rtol=1e-4, atol=1e-5)
        assert len(forwards) == 2
        denoiser.predict(z_t, t, denoiser.encode(PROMPTS))  # with gradient: one graph, as the estimate counted
        assert len(forwards) == 3
