"""The flow-matching pocket model in ComfyUI: drawn by KSampler as the engine draws it, erased, its file in the stock loader."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from eraser_core.backends.pocket import load_pocket_denoiser
from eraser_core.edits import make_edit
from eraser_core.erasing import erase
from eraser_core.errors import ModelError
from eraser_core.hidden_prompt import extend
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target
from eraser_core.sampling import sample

FILE = "pocket_flow.safetensors"
PROMPTS = ("a church", "a church in ink style", "")
REQUEST = Request((Target("church", anchor="a castle"),), ("a guitar", "a dog"), seed=0)


@pytest.fixture(scope="module")
def checkpoint(comfy: ModuleType, pack: ModuleType) -> tuple[Any, Any, Any]:
    with torch.inference_mode():  # as the host runs its nodes
        return comfy.CheckpointLoaderSimple().load_checkpoint(FILE)


@pytest.fixture(scope="module")
def denoiser(pack: ModuleType, checkpoint: tuple[Any, Any, Any]) -> Any:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    return HostDenoiser(checkpoint[0], checkpoint[1], 64, 64)


@pytest.fixture(scope="module")
def engine(pocket_file: Path) -> Any:
    return load_pocket_denoiser(pocket_file.with_name(FILE))


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn((3, 8, 8, 8), generator=torch.Generator().manual_seed(0)), torch.tensor([1, 500, 999])


def drawn(comfy: ModuleType, model: Any, clip: Any, prompt: str, steps: int = 4) -> torch.Tensor:
    """Latents [1, 8, 8, 8] by the stock nodes."""
    with torch.inference_mode():
        positive, negative = (comfy.CLIPTextEncode().encode(clip, text)[0] for text in (prompt, ""))
        (empty,) = comfy.EmptyLatentImage().generate(64, 64, 1)
        sampler = comfy.KSampler().sample(model, 7, steps, 3.0, "euler", "simple", positive, negative, empty)
        return sampler[0]["samples"].clone()


def test_predictions_and_facts_equal_the_engines(denoiser: Any, engine: Any) -> None:
    z_t, t = inputs()
    with torch.no_grad():
        ours, theirs = (d.predict(z_t, t, d.encode(PROMPTS)) for d in (denoiser, engine))
        other = engine.predict(z_t, t, engine.encode(("a castle",) * 3))
        states = [d.as_read(d.encode(PROMPTS).tokens) for d in (denoiser, engine)]
    assert float((ours - theirs).abs().max()) < 1e-3
    assert float((ours - other).abs().max()) > 1e-2  # the comparison can fail
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-4)
    assert (denoiser.family, denoiser.base_hash) == (engine.family, engine.base_hash) and engine.family == "pocket-flow"
    torch.testing.assert_close(denoiser.schedule.sigmas, engine.schedule.sigmas, rtol=1e-6, atol=0)
    for tune in ("xattn-kv", "xattn"):
        shapes = [{k: tuple(w.shape) for k, w in d.weights(tune).items()} for d in (denoiser, engine)]
        assert shapes[0] == shapes[1]
    names = engine.file_names()
    assert {m: denoiser.file_names()[m] for m in names} == names


def test_ksampler_draws_what_the_engine_draws(comfy: ModuleType, checkpoint: tuple[Any, Any, Any], engine: Any) -> None:
    from comfy.sample import prepare_noise

    noise = prepare_noise(torch.zeros(1, 8, 8, 8), 7)
    with torch.no_grad():
        theirs, castle = (
            sample(engine, noise, engine.encode([text]), engine.encode([""]), 4, 3.0)
            for text in ("a church", "a castle")
        )
    ours = drawn(comfy, *checkpoint[:2], "a church")
    assert float((ours - theirs).abs().max()) < 2e-2
    assert float((ours - castle).abs().max()) > 0.2


def test_longer_contexts_and_edits_of_all_attention_give_the_engines_gradients(denoiser: Any, engine: Any) -> None:
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
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-6)
    assert any(float(g.abs().max()) > 0 for g in found[0])


@pytest.mark.parametrize("name", ["uce", "dp"])
def test_a_closed_form_is_the_engines_and_the_stock_loader_puts_its_file_on(
    comfy: ModuleType, pack: ModuleType, checkpoint: tuple[Any, Any, Any], engine: Any, tmp_path: Path, name: str
) -> None:
    from comfy.sd import load_lora_for_models
    from comfy.utils import load_torch_file
    from concept_eraser_pack.nodes.host import model as host_model
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    method = METHODS[name]
    with torch.inference_mode(False), torch.no_grad():
        found = [
            erase(d, REQUEST, method, method.configure(d.family, {})).erasure
            for d in (UnloadedDenoiser(*checkpoint[:2]), engine)
        ]
        ours, theirs = (next(iter(e.entries.values())).delta() for e in found)
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02
        path = tmp_path / "church.safetensors"
        found[0].save(path)
        applied = host_model.apply_erasure(checkpoint[0], found[0], 1.0, path.name)
    stock, _ = load_lora_for_models(checkpoint[0], None, load_torch_file(str(path)), 1.0, 0.0)
    weights = [host_model.patched_weights(m, "xattn-kv") for m in (stock, applied, checkpoint[0])]
    (key,) = weights[0]
    assert torch.equal(weights[0][key], weights[1][key])
    assert not torch.equal(weights[0][key], weights[2][key])
    latents = [drawn(comfy, m, checkpoint[1], "a church") for m in (stock, applied, checkpoint[0])]
    assert torch.equal(latents[0], latents[1])
    assert float((latents[0] - latents[2]).abs().max()) > 0.05


def test_the_users_shift_counts_and_a_unet_sampled_as_a_flow_is_refused(
    comfy: ModuleType, pack: ModuleType, checkpoint: tuple[Any, Any, Any]
) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3
    from concept_eraser_pack.nodes.host import model as host_model

    with torch.inference_mode():
        unet = comfy.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")[0]
        moved, wrong = (ModelSamplingSD3().patch(model, 3.0, 1.0)[0] for model in (checkpoint[0], unet))
        assert float(host_model.schedule(moved).levels(torch.tensor([499]))[1]) == pytest.approx(0.75, abs=1e-4)
        assert float(host_model.schedule(checkpoint[0]).levels(torch.tensor([499]))[1]) == pytest.approx(0.5, abs=1e-4)
        with pytest.raises(ModelError, match="sampled as"):
            host_model.schedule(wrong)
