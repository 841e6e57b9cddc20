"""Single files and folders of the three families: the same model, read from either, predicts what its parts predict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from last_timestep import stepped
from tiny_checkpoints import FAMILIES, build, write_checkpoint, write_folder
from true_configs import CONFIGS

from eraser_core.backends.architecture import SD1_TEXT, SD2_TEXT, SDXL_TEXT, SDXL_TEXT_2, UNET, recognise
from eraser_core.backends.find import find_model
from eraser_core.backends.ldm_keys import diffusers_to_ldm
from eraser_core.backends.stored_model import Loading, read
from eraser_core.errors import ModelError

SMALL = Loading(size=64)
PROMPTS = ("a church", "a photo of a small dog")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def file(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("file") / "model.safetensors", family)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("folder") / "model", family)


TRUE = {"sd15": "sd1", "sd21": "sd2", "sdxl": "sdxl"}
TEXTS = {"sd1": [SD1_TEXT], "sd2": [SD2_TEXT], "sdxl": [SDXL_TEXT, SDXL_TEXT_2]}


@pytest.mark.parametrize("name", TRUE)
def test_the_true_configuration_is_told_from_names_and_shapes(name: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**CONFIGS[name])
    names = diffusers_to_ldm(CONFIGS[name])
    shapes = {UNET + names[own]: tuple(p.shape) for own, p in unet.named_parameters()}
    shapes |= {prefix + "any": (1,) for prefix in TEXTS[TRUE[name]]}
    found = recognise(shapes, "a file")
    assert found.family == TRUE[name]
    with torch.device("meta"):
        again = UNet2DConditionModel(**found.unet)
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in unet.named_parameters()}
    assert heads(again) == heads(unet)


def heads(unet: UNet2DConditionModel) -> dict[str, int]:
    return {name: module.heads for name, module in unet.named_modules() if isinstance(module, Attention)}


def test_a_file_and_a_folder_give_what_the_parts_give(family: str, file: Path, folder: Path) -> None:
    parts = build(family)
    one, two = (read(find_model(str(path), SMALL), SMALL) for path in (file, folder))
    assert one.base_hash == two.base_hash
    contexts = [d.encode(PROMPTS) for d in (one, two)]
    expected = reference_context(family, parts)
    z, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 900])
    added = None
    if family == "sdxl":
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(2, -1)
        added = {"text_embeds": expected[1], "time_ids": sizes}
    right = parts["unet"](z, t, expected[0], added_cond_kwargs=added).sample
    for denoiser, context in zip((one, two), contexts, strict=True):
        assert torch.allclose(context.tokens, expected[0], atol=1e-5)
        if family == "sdxl":
            assert context.pooled is not None and torch.allclose(context.pooled, expected[1], atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(denoiser.predict(z, t, context), right, atol=1e-5)
        picture = denoiser.decode(z)
        scaled = parts["vae"].decode(z / denoiser._autoencoder.config.scaling_factor).sample
        assert torch.allclose(picture, (scaled / 2 + 0.5).clamp(0, 1), atol=1e-5)


def reference_context(family: str, parts: dict) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What diffusers' pipelines do with the same prompts (ids from transformers' own tokenizer)."""
    from eraser_core.backends.clip_tokens import shipped_tokens

    tokens = shipped_tokens()
    first = parts["text_encoder"]
    if family != "sdxl":
        return first(tokens.ids(PROMPTS, tokens.end if family == "sd1" else 0)).last_hidden_state, None
    one = first(tokens.ids(PROMPTS, tokens.end), output_hidden_states=True)
    two = parts["text_encoder_2"](tokens.ids(PROMPTS, 0), output_hidden_states=True)
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds


def test_the_start_of_a_prompt_is_encoded_as_within_the_whole(file: Path) -> None:
    """Exact, for the encoders are causal, with SDXL's two as with one; the other way round a token does change."""
    denoiser = read(find_model(str(file), SMALL), SMALL)
    whole, start = denoiser.encode(PROMPTS).tokens, denoiser.encode_start(PROMPTS, 4)
    assert start.shape[1] == 4 and torch.allclose(start, whole[:, :4], atol=1e-5)
    other = denoiser.encode(["my church", "the photo of a small dog"]).tokens
    assert not torch.allclose(other[:, 2], whole[:, 2], atol=1e-3)


def test_other_weights_give_another_prediction_and_hash(family: str, file: Path, tmp_path: Path) -> None:
    other = read(find_model(str(write_checkpoint(tmp_path / "o.safetensors", family, seed=1)), SMALL), SMALL)
    one = read(find_model(str(file), SMALL), SMALL)
    assert one.base_hash != other.base_hash
    assert not torch.allclose(one.encode(PROMPTS).tokens, other.encode(PROMPTS).tokens, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_hash_is_that_of_the_file_whatever_it_is_computed_in(tmp_path: Path, dtype: torch.dtype) -> None:
    path = str(write_checkpoint(tmp_path / "m.safetensors", "sd1", dtype=dtype))
    hashes = {read(find_model(path, SMALL), Loading(size=64, compute=c)).base_hash for c in ("fp32", "fp16", "bf16")}
    assert len(hashes) == 1


def test_the_size_ids_say_the_size_of_the_pictures(tmp_path: Path) -> None:
    path = str(write_checkpoint(tmp_path / "m.safetensors", "sdxl"))
    context = read(find_model(path, SMALL), Loading(size=96)).encode(["a dog"])
    assert context.size_ids is not None and context.size_ids.tolist() == [[96, 96, 0, 0, 96, 96]]


def test_a_size_that_the_unet_cannot_halve_is_refused(tmp_path: Path) -> None:
    from eraser_core.errors import RequestError

    path = str(write_checkpoint(tmp_path / "m.safetensors", "sd1"))
    with pytest.raises(RequestError, match="multiple of 16"):
        read(find_model(path, SMALL), Loading(size=70))


def test_text_is_encoded_once_and_the_encoder_let_go_of(tmp_path: Path) -> None:
    path = str(write_checkpoint(tmp_path / "m.safetensors", "sd1"))
    denoiser = read(find_model(path, SMALL), SMALL)
    text = denoiser._text
    context = denoiser.encode(["a dog"])
    assert text._encoder is not None
    z, t = torch.zeros(1, 4, 8, 8), torch.tensor([1])
    with torch.no_grad():
        denoiser.predict(z, t, context)
    assert text._encoder is not None, "drawing alternates between text and pictures"
    denoiser.predict(z, t, context)
    assert text._encoder is None
    assert torch.equal(denoiser.encode(["a dog"]).tokens, context.tokens) and text._encoder is None
    denoiser.encode(["a cat"])
    assert text._encoder is not None


def test_a_checkpoint_without_a_vae_trains_and_cannot_draw(tmp_path: Path) -> None:
    path = str(write_checkpoint(tmp_path / "m.safetensors", "sd1", without="first_stage_model."))
    denoiser = read(find_model(path, SMALL), SMALL)
    denoiser.predict(torch.zeros(1, 4, 8, 8), torch.tensor([1]), denoiser.encode(["a dog"]))
    with pytest.raises(ModelError, match="holds no VAE"):
        denoiser.decode(torch.zeros(1, 4, 8, 8))


def test_a_hub_name_is_fetched_only_when_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="--allow-download"):
        find_model("owner/name", SMALL)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="cannot be fetched"):
        find_model("owner/name that cannot be", SMALL, allow_download=True)


@pytest.mark.parametrize(
    ("part", "said"), [("transformer", "is a transformer, which is not fetched"), ("unet", "lacks")]
)
def test_of_a_transformer_on_the_hub_no_more_than_the_index_is_fetched(
    part: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own library, on a cache that holds an index alone."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--owner--name"
    (cached / "snapshots" / "0").mkdir(parents=True)
    (cached / "snapshots" / "0" / "model_index.json").write_text(f'{{"{part}": ["diffusers", "Any"]}}')
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0")
    with pytest.raises(ModelError, match=said):
        find_model("owner/name", SMALL, allow_download=True)


MARK = torch.tensor([])


@pytest.mark.parametrize(
    ("extra", "metadata", "switch", "expected"),
    [
        ({}, {}, None, ("epsilon", False)),
        ({"v_pred": MARK}, {}, None, ("v_prediction", False)),
        ({"v_pred": MARK, "ztsnr": MARK}, {}, None, ("v_prediction", True)),
        ({}, {"modelspec.prediction_type": "v"}, None, ("v_prediction", False)),
        ({"v_pred": MARK}, {}, "epsilon", ("epsilon", False)),
        ({}, {}, "v_prediction", ("v_prediction", False)),
    ],
)
def test_what_is_predicted_is_read_from_marks_and_overruled_by_the_switch(
    tmp_path: Path, extra: dict, metadata: dict, switch: str | None, expected: tuple[str, bool]
) -> None:
    path = write_checkpoint(tmp_path / "m.safetensors", "sdxl", extra=extra, metadata=metadata)
    said = find_model(str(path), Loading(prediction=switch)).said
    assert (said.prediction, said.zero_snr) == expected
    assert said.source == "--prediction" if switch else said.source != "--prediction"


def test_zero_terminal_snr_ends_in_pure_noise_and_starts_where_it_did(tmp_path: Path) -> None:
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    from eraser_core.denoiser import NoiseSchedule

    path = str(write_checkpoint(tmp_path / "m.safetensors", "sdxl"))
    with pytest.raises(ModelError, match="needs v-prediction"):
        read(find_model(path, Loading(zero_snr=True)), SMALL)
    denoiser = read(find_model(path, Loading(zero_snr=True, prediction="v_prediction")), SMALL)
    ours, plain = denoiser.schedule.alphas_cumprod, NoiseSchedule.scaled_linear().alphas_cumprod
    assert ours[-1] == 0 and torch.isclose(ours[0], plain[0]) and plain[-1] > 0
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    theirs = torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0)
    assert torch.allclose(ours, theirs, atol=1e-9)
    from eraser_core.sampling import sample

    context, negative = denoiser.encode(["a dog"]), denoiser.encode([""])
    latents = sample(denoiser, torch.randn(1, 4, 8, 8), context, negative, 3, 5.0)
    assert latents.isfinite().all()


def test_a_training_step_at_pure_noise_is_finite_and_its_target_right(tmp_path: Path) -> None:
    """As anime checkpoints of SDXL are trained; read as an epsilon model the same timestep has no picture."""
    path = str(write_checkpoint(tmp_path / "m.safetensors", "sdxl", extra={"v_pred": MARK, "ztsnr": MARK}))
    denoiser = read(find_model(path, SMALL), SMALL)
    stepped(denoiser)
    noise, last = torch.randn(1, 4, 8, 8), torch.tensor([999])
    wrong = replace(denoiser.schedule, prediction="epsilon")
    assert not wrong.split(torch.randn_like(noise), noise, last)[0].isfinite().any()


def test_a_folders_scheduler_is_believed(tmp_path: Path) -> None:
    scheduler = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    path = str(write_folder(tmp_path / "m", "sd2", scheduler=scheduler))
    said = find_model(path, SMALL).said
    assert (said.prediction, said.zero_snr) == ("v_prediction", True)
    assert find_model(path, Loading(zero_snr=False)).said.zero_snr is False
    odd = str(write_folder(tmp_path / "odd", "sd1", scheduler={"beta_schedule": "linear"}))
    with pytest.raises(ModelError, match="another noise schedule"):
        find_model(odd, SMALL)


def test_fp16_variants_of_a_folder_are_read(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "m", "sd1")
    weights = path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert read(find_model(str(path), SMALL), SMALL).family == "sd1"
