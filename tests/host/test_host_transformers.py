"""Closed forms on transformers: the host's own classes and tokenizers, narrow, with random weights."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from narrow_transformers import CONTEXTS, FAMILIES, WIDTH, clip_of, known, model_of

from eraser_core.denoiser import Context
from eraser_core.erasing import configure, erase
from eraser_core.erasure import load_erasure
from eraser_core.errors import ModelError, RequestError
from eraser_core.many.combine import CombineSettings, combine, source
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target
from eraser_core.text_layers import reads_pooled, reads_text
from eraser_core.text_readers import places

pytestmark = pytest.mark.usefixtures("few_general_words")
LENGTH = 64  # of each encoder's states
TEMPLATES = ("{}", "a photo of {}", "{} on a table")
CAUSAL = ("flux2", "sd3", "z-image", "lumina2", "qwen-image")  # in T5 every state knows of every word


@pytest.fixture(scope="module", params=FAMILIES)
def denoiser(request: pytest.FixtureRequest, pack: ModuleType) -> Any:
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    if not known(request.param):
        pytest.skip("this version of the host does not know the family")
    with torch.inference_mode(False), torch.no_grad():
        return UnloadedDenoiser(model_of(request.param), clip_of(request.param))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_told_by_its_keys(family: str, pack: ModuleType) -> None:
    """The host's own look at a file's keys and shapes, and then ours at what the host says of it."""
    import comfy.model_detection as detection
    from concept_eraser_pack.nodes.host import model as host_model

    if not known(family):
        pytest.skip("this version of the host does not know the family")
    wide = {"dim": 3840, "n_heads": 30, "axes_dims": [32, 48, 48]}
    keys = model_of(family, wide, weights="none") if family == "z-image" else model_of(family)
    config = detection.model_config_from_unet(dict(keys.model_state_dict()), "diffusion_model.")
    assert host_model.family(SimpleNamespace(model=SimpleNamespace(model_config=config))) == family


def asked() -> Request:
    targets = (
        Target("a church", "a castle", ("a chapel",), TEMPLATES),
        Target("a soccer ball", "a cat", (), TEMPLATES),
    )
    return Request(targets, ("a dog", "a truck", "a violin"))


def test_the_places_of_words_are_those_of_the_states(denoiser: Any) -> None:
    """What stands behind the last word alone changes with another end, what stands before it with another beginning."""
    for reader in denoiser.stretches():
        ends = [reader.token_count(text) for text in ("a photo of", "a photo of a church", "a photo of a church tower")]
        assert ends[0] < ends[1] < ends[2]
        assert reader.token_count("a photo of ") == ends[0]  # templates are cut behind a space
    if denoiser.family not in CAUSAL:
        return
    reader = denoiser.stretches()[0]
    ends = [reader.token_count(text) for text in ("a photo of", "a photo of a church")]
    one, two = (reader.encode([text]).tokens[0] for text in ("a photo of a church", "a photo of a castle"))
    differs = (one - two).abs().sum(1) > 0
    first = int(differs.nonzero()[0])
    assert ends[0] <= first < ends[1]
    longer = reader.encode(["a photo of a church tower"]).tokens[0]
    assert torch.allclose(longer[: ends[1]], one[: ends[1]], atol=1e-3)
    assert not torch.allclose(longer[ends[1]], one[ends[1]], atol=1e-2)


def test_the_states_are_those_that_enter_the_matrices(denoiser: Any) -> None:
    """The host draws a step of its own; what it multiplies by each matrix is what a closed form reads."""
    import comfy.sample

    model, clip = denoiser._model, denoiser._clip
    entered: dict[str, torch.Tensor] = {}

    def note(key: str) -> Any:
        return lambda _module, given: entered.setdefault(key, given[0].detach().clone())

    keys = [key for key in model.model_state_dict() if reads_text(key) or reads_pooled(key)]
    noted = [model.model.get_submodule(key.rpartition(".")[0]).register_forward_pre_hook(note(key)) for key in keys]
    text = "a photo of a church on a table"
    with torch.inference_mode():
        cond = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        latent, side = model.model.latent_format, 64 if "pixart" in denoiser.family else 8  # PixArt has a smallest size
        shape = [1, latent.latent_channels, *[1] * (latent.latent_dimensions - 2), side, side]
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        comfy.sample.sample(model, noise, 1, 1.0, "euler", "simple", cond, cond, torch.zeros(shape), disable_pbar=True)
    for hook in noted:
        hook.remove()
    assert sorted(entered) == sorted(keys)
    for key in [key for key in keys if reads_pooled(key)]:
        (pooled,) = [place for place in places(denoiser) if key in place.weights("xattn-kv")]
        assert torch.allclose(entered.pop(key), pooled.encode([text]).tokens[:, 0], atol=1e-5)
    parts = denoiser.as_read(denoiser.encode([text]).tokens)[0].split(LENGTH)
    for states in entered.values():
        for part, reader in zip(parts, denoiser.stretches(), strict=True):
            words = part[: reader.token_count(text)]
            rows = states[0].unfold(0, len(words), 1).transpose(1, 2)
            near = (rows - words).flatten(1).norm(dim=1).min() / words.norm()
            assert near < 1e-4, near


def moved(denoiser: Any, entries: Any, before: str, after: str) -> float:
    """How much nearer what the matrices read of `before` comes to what they read of `after`: 1 is there, 0 or less no nearer."""
    s, g = (denoiser.as_read(denoiser.encode([text]).tokens)[0].double() for text in (before, after))
    left = apart = 0.0
    for key, weight in denoiser.weights("xattn-kv").items():
        weight = weight.double()
        left += float((s @ (weight + entries[key].delta().double()).T - g @ weight.T).square().sum())
        apart += float(((s - g) @ weight.T).square().sum())
    return 1 - (left / apart) ** 0.5


@pytest.mark.parametrize("method", ["uce", "time", "dp"])
def test_a_closed_form_leads_the_concept_to_its_anchor_and_leaves_the_rest(denoiser: Any, method: str) -> None:
    request = asked()
    settings = configure(METHODS[method], denoiser.family, request, {})
    result = erase(denoiser, request, METHODS[method], settings, dtype=torch.float32)
    entries = result.erasure.entries
    assert set(entries) == {key for key in denoiser._model.model_state_dict() if reads_text(key) or reads_pooled(key)}
    assert len(entries) == {"pixart-sigma": 2, "anima": 4, "flux1": 2, "sd3": 2}.get(denoiser.family, 1)
    assert result.erasure.family == denoiser.family
    if method == "uce":  # the others look at single tokens
        for place in places(denoiser):
            gone = moved(place, entries, "a church on a table", "a castle on a table")
            kept = moved(place, entries, "a dog on a table", "a castle on a table")
            assert gone > 0.1 and gone > 2 * abs(kept), (gone, kept)


def test_the_stock_loader_puts_the_file_on_to_the_last_bit(denoiser: Any, tmp_path: Any) -> None:
    import comfy.lora
    import comfy.sd
    import comfy.utils

    request = asked()
    settings = configure(METHODS["uce"], denoiser.family, request, {})
    erasure = erase(denoiser, request, METHODS["uce"], settings, dtype=torch.float32).erasure
    path = tmp_path / "e.safetensors"
    erasure.save(path)
    loaded = load_erasure(path)
    assert loaded.family == denoiser.family and path.stat().st_size < 1_000_000 * len(loaded.entries)
    patched, _ = comfy.sd.load_lora_for_models(denoiser._model, None, comfy.utils.load_torch_file(str(path)), 1.0, 0.0)
    for key, entry in loaded.entries.items():
        ((weight, _), *patches) = patched.get_key_patches(key)[key]
        ours = weight.detach().clone() + torch.mm(entry.up, entry.down)
        assert torch.equal(comfy.lora.calculate_weight(patches, weight.detach().clone(), key), ours)
        assert not torch.equal(ours, weight)


def test_erasures_are_combined_into_one(denoiser: Any) -> None:
    """The combined file does what the first file does and the second does not."""
    pair = ("a church on a table", "a castle on a table")
    alone = [Request((target,), asked().retain) for target in asked().targets]
    made = [
        erase(denoiser, r, METHODS["uce"], configure(METHODS["uce"], denoiser.family, r, {})).erasure for r in alone
    ]
    sources = [source(f"{i}", erasure) for i, erasure in enumerate(made)]
    joint = combine(denoiser, sources, CombineSettings()).erasure
    assert "a soccer ball" in joint.facts["erasure.targets"] and joint.entries.keys() == made[0].entries.keys()
    for place in places(denoiser):
        assert moved(place, joint.entries, *pair) > 0.05 + moved(place, made[1].entries, *pair)


def test_the_node_solves_saves_and_hands_on(denoiser: Any, pack: ModuleType) -> None:
    from concept_eraser_pack.nodes import closed_form, closed_form_run
    from concept_eraser_pack.nodes.host import model as host_model

    words = {"concepts": "church", "anchor": "a castle", "retain": "a dog", "precision": "fp16"}
    words["filename_prefix"] = f"loras/{denoiser.family}"
    model, clip, choice = denoiser._model, denoiser._clip, closed_form.CHOICES["UCE"]
    (sanitized, erasure, _), said = closed_form_run.solve(model, clip, choice, words, "")
    assert "church -> a castle" in said and erasure.family == denoiser.family
    before, after = (
        {**host_model.patched_weights(m, "xattn-kv"), **host_model.pooled_weights(m)} for m in (model, sanitized)
    )
    assert not any(torch.equal(before[key], after[key]) for key in erasure.entries)
    with pytest.raises(RequestError, match="made for a model of the family"):
        host_model.apply_erasure(model_of("flux1" if denoiser.family != "flux1" else "z-image"), erasure, 1.0, "")


def test_a_clip_of_another_family_is_refused(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    model = model_of("flux1")
    door = model.model.diffusion_model.txt_in
    door.weight = torch.nn.Parameter(torch.randn(128, 2 * WIDTH), requires_grad=False)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        pytest.raises(RequestError, match="connect the CLIP of the same"),
    ):
        UnloadedDenoiser(model, clip_of("z-image"))


@pytest.mark.parametrize(
    ("clip", "said"), [("chroma", "this CLIP gives no pooled text"), ("sd3", "pooled text of 96 numbers")]
)
def test_a_pooled_text_that_is_missing_or_of_another_family_is_refused(clip: str, said: str, pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    with torch.inference_mode(False), torch.no_grad(), pytest.raises(RequestError, match=said):
        UnloadedDenoiser(model_of("flux1"), clip_of(clip))


def test_stable_diffusion_3_does_without_t5(pack: ModuleType) -> None:
    """Its words are then found among CLIP's states alone."""
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    clip = clip_of("sd3")
    del clip.cond_stage_model.t5xxl
    clip.cond_stage_model.t5xxl = None
    with torch.inference_mode(False), torch.no_grad():
        denoiser = UnloadedDenoiser(model_of("sd3"), clip)
        assert denoiser.encode(["a church"]).tokens.shape == (1, LENGTH, WIDTH)
        assert denoiser.token_count("a church") == 3  # behind the start


def test_a_prompt_beyond_the_room_is_refused(denoiser: Any) -> None:
    with pytest.raises(RequestError, match="shorten"):
        denoiser.token_count("a church " * 80)


def test_an_fp8_door_is_read_and_a_quantised_one_refused(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.host import model as host_model

    model = model_of("flux1")
    door = model.model.diffusion_model.txt_in
    door.weight = torch.nn.Parameter(door.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    key = "diffusion_model.txt_in.weight"
    assert host_model.patched_weights(model, "xattn-kv")[key].dtype == torch.float32
    assert isinstance(host_model.weights(model)[key], torch.Tensor)
    door.weight = torch.nn.Parameter(torch.zeros(128, 8, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match="quantised"):
        host_model.weights(model)


def test_a_context_of_zeros_counts_for_nothing(denoiser: Any) -> None:
    read = denoiser.as_read(torch.zeros(1, 4, CONTEXTS.get(denoiser.family, WIDTH)))
    assert not read.any()
    assert isinstance(denoiser.encode(["a church"]), Context)
