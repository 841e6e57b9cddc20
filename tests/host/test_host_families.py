"""SD 1.x, SD 2.x and SDXL: the engine's names are the host's, key by key, and both faces compute the same."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import small_models
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

from diffusers import UNet2DConditionModel
from last_timestep import stepped
from tiny_checkpoints import SECOND_WIDTH, TEXT_WIDTH, UNETS, write_checkpoint

from eraser_core.backends.architecture import SD1_TEXT, SD2_TEXT, SDXL_TEXT, SDXL_TEXT_2, UNET, recognise
from eraser_core.backends.checkpoint import open_checkpoint
from eraser_core.backends.clip_tokens import shipped_tokens
from eraser_core.backends.ldm_keys import ldm_to_diffusers
from eraser_core.backends.stored_model import Loading, read
from eraser_core.denoiser import Context
from eraser_core.edits import DenseEdit, LowRankEdit
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.hidden_prompt import extend

FAMILIES = ("sd1", "sd2", "sdxl")
TEXTS = {"sd1": [SD1_TEXT], "sd2": [SD2_TEXT], "sdxl": [SDXL_TEXT, SDXL_TEXT_2]}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_engines_names_are_the_hosts_key_by_key(comfy: ModuleType, family: str) -> None:
    import comfy.lora as host_lora
    import comfy.utils as host_utils

    config = small_models.config(family)
    model = config.get_model({}, "", device=torch.device("meta"))
    own = {k: tuple(v.shape) for k, v in model.state_dict().items() if k.startswith("diffusion_model.")}
    shapes = {UNET + k.removeprefix("diffusion_model."): shape for k, shape in own.items()}
    found = recognise({**shapes, **{prefix + "x": (1,) for prefix in TEXTS[family]}}, "the host's model")
    assert found.family == family

    ours = ldm_to_diffusers(found.unet)
    assert {"diffusion_model." + ldm for ldm in ours} == set(own)
    theirs = host_utils.unet_to_diffusers(config.unet_config)
    for ldm, diffusers in ours.items():  # the host's table also names modules that a family has not
        assert theirs[diffusers] == ldm

    with torch.device("meta"):
        unet = UNet2DConditionModel(**found.unet)
    parameters = {n: tuple(p.shape) for n, p in unet.named_parameters()}
    assert parameters == {ours[k.removeprefix("diffusion_model.")]: shape for k, shape in own.items()}

    lora_keys = host_lora.model_lora_keys_unet(model, {})
    for ldm, diffusers in ours.items():
        if ldm.endswith(".weight"):
            name = ldm if family == "sdxl" else diffusers
            kohya = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            assert lora_keys[kohya] == "diffusion_model." + ldm, kohya


def test_the_shipped_vocabulary_gives_the_hosts_tokens(comfy: ModuleType) -> None:
    import comfy.sdxl_clip

    host = comfy.sdxl_clip.SDXLTokenizer()
    for text in ("a church", "a photo of van Gogh's caf\u00e9, 1999!", ""):
        theirs = host.tokenize_with_weights(text)
        for part, pad in (("l", shipped_tokens().end), ("g", 0)):
            assert shipped_tokens().ids([text], pad)[0].tolist() == [token for token, _ in theirs[part][0]]


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, pack: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(engine, host) denoisers of one narrow model: epsilon for SD1.x, v for the others, SDXL with zero terminal SNR."""
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    family = request.param
    path = write_checkpoint(tmp_path_factory.mktemp("narrow") / "m.safetensors", family)
    zero_snr = family == "sdxl"
    loading = Loading(size=64, prediction="epsilon" if family == "sd1" else "v_prediction", zero_snr=zero_snr)
    stored = open_checkpoint(path, loading)
    weights = {n.removeprefix(UNET): stored.files.tensor(n) for n in stored.names.values()}
    narrow: dict[str, Any] = {"context_dim": UNETS[family]["cross_attention_dim"]}
    if family == "sdxl":
        narrow["adm_in_channels"] = SECOND_WIDTH + 6 * 256
    model = small_models.model_of(family, weights, family != "sd1", narrow, zero_snr)
    return read(stored, loading), HostDenoiser(model, small_models.TokensOnly(), 64, 64), model


def context(d: Any, seed: int, b: int = 1) -> Context:
    generator = torch.Generator().manual_seed(seed)
    width = TEXT_WIDTH + SECOND_WIDTH if d.family == "sdxl" else TEXT_WIDTH
    tokens = torch.randn(b, 77, width, generator=generator)
    if d.family != "sdxl":
        return Context(tokens)
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(b, -1)
    return Context(tokens, torch.randn(b, SECOND_WIDTH, generator=generator), sizes)


def test_the_faces_agree_on_the_model(pair: Any) -> None:
    engine, host, _ = pair
    assert (engine.family, engine.base_hash, engine.latent_shape) == (host.family, host.base_hash, host.latent_shape)
    assert engine.schedule.prediction == host.schedule.prediction
    # of pure noise the host says 4.9e-8 for 0, to have a finite sigma
    assert torch.allclose(engine.schedule.alphas_cumprod, host.schedule.alphas_cumprod, rtol=1e-5, atol=1e-7)
    assert (float(host.schedule.alphas_cumprod[-1]) < 1e-7) == (host.family == "sdxl")
    assert engine.file_names() == {k: v for k, v in host.file_names().items() if k in engine.file_names()}
    assert set(engine.file_names()) <= set(host.file_names())


def test_native_predictions_agree(pair: Any) -> None:
    engine, host, _ = pair
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([20, 950])
    with torch.inference_mode(False), torch.no_grad():
        ours, theirs = (d.predict(z, t, context(d, 1, 2)) for d in (engine, host))
        other = engine.predict(z, t, context(engine, 2, 2))
    assert float((ours - theirs).abs().max()) < 1e-4
    assert float((ours - other).abs().max()) > 1e-3


@pytest.mark.parametrize("rank", [0, 4])
def test_five_plain_gradient_steps_agree(pair: Any, rank: int) -> None:
    found = []
    for d in pair[:2]:
        with torch.inference_mode(False), torch.enable_grad():
            found.append(torch.cat([p.flatten() for p in five_steps(d, rank)]))
    start = five_steps(pair[0], rank, steps=0)
    moved = found[0] - torch.cat([p.flatten() for p in start])
    assert float((found[0] - found[1]).norm() / moved.norm()) < 1e-3
    assert float(moved.norm()) > 1e-4


@pytest.mark.parametrize("pair", ["sdxl"], indirect=True)
def test_a_training_step_at_pure_noise_agrees(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDXL with v-prediction and zero terminal SNR, as anime checkpoints are."""
    found, places = [], {"": 3, "a church": 1, "a castle": 2, "a dog": 4}
    for d in pair[:2]:
        monkeypatch.setattr(d, "encode", lambda prompts, d=d: Context.cat([context(d, places[p]) for p in prompts]))
        with torch.inference_mode(False), torch.enable_grad():
            found.append(stepped(d))
    assert found[0] == pytest.approx(found[1], rel=2e-3)


def five_steps(d: Any, rank: int, steps: int = 5) -> list[torch.Tensor]:
    """Eq. 8 of the slides on given z_t, t, contexts and p, with plain gradient descent."""
    generator = torch.Generator().manual_seed(5)
    weights = dict(sorted(d.weights("xattn-kv").items()))
    edit = LowRankEdit(weights, rank, generator) if rank else DenseEdit(weights)
    c_e, c_n = context(d, 1), context(d, 2)
    p = torch.randn((1, 4, c_e.tokens.shape[-1]), generator=generator)
    optimizer = torch.optim.SGD(edit.parameters(), lr=1.0)
    for t in (100, 300, 500, 700, 900)[:steps]:
        z_t, at = torch.randn((1, *d.latent_shape), generator=generator), torch.tensor([t])
        with torch.no_grad():
            neutral, erased = d.predict(z_t, at, c_n), d.predict(z_t, at, c_e)
        removed = (d.predict(z_t, at, c_e, edit) - neutral).square().mean()
        kept = (d.predict(z_t, at, extend(c_e, p, "concatenative", 77), edit) - erased).square().mean()
        optimizer.zero_grad()
        (removed + 0.3 * kept).backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in edit.parameters()]


@pytest.mark.parametrize("rank", [0, 4])
def test_the_engines_file_gives_the_stock_loader_the_same_weights_to_the_last_bit(
    pair: Any, comfy: ModuleType, rank: int, tmp_path: Path
) -> None:
    import folder_paths
    from comfy.lora import calculate_weight

    engine, _, model = pair
    generator = torch.Generator().manual_seed(0)
    weights = engine.weights("xattn-kv")
    edit = LowRankEdit(weights, rank, generator) if rank else DenseEdit(weights)
    with torch.no_grad():
        for parameter in edit.parameters():
            parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))
    names = engine.file_names()
    modules = {key.rpartition(".")[0]: names[key.rpartition(".")[0]] for key in edit.entries()}
    erasure = Erasure(edit.entries(), modules, engine.family, engine.base_hash, {}).to(torch.float16)
    folder = Path(folder_paths.get_folder_paths("loras")[0])
    folder.mkdir(parents=True, exist_ok=True)
    erasure.save(folder / "family.safetensors")
    read_back = load_erasure(folder / "family.safetensors").as_edit()
    with torch.inference_mode():
        stock = comfy.LoraLoaderModelOnly().load_lora_model_only(model, "family.safetensors", 1.0)[0]
        assert set(stock.patches) == set(erasure.entries)
        for key, frozen in weights.items():
            theirs = calculate_weight(stock.patches[key], frozen.clone(), key)
            assert torch.equal(theirs, read_back.weight(key, frozen)), key
            assert not torch.equal(theirs, frozen), key
