"""Closed forms on transformers whose text enters by one matrix: the host's own classes and tokenizers, narrow, random weights."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from eraser_core.denoiser import Context
from eraser_core.erasing import configure, erase
from eraser_core.erasure import load_erasure
from eraser_core.errors import ModelError, RequestError
from eraser_core.many.combine import CombineSettings, combine, source
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target
from eraser_core.text_layers import reads_text

WIDTH = 256
TEMPLATES = ("{}", "a photo of {}", "{} on a table")
FLUX = {
    "image_model": "flux",
    "in_channels": 16,
    "patch_size": 2,
    "out_channels": 16,
    "vec_in_dim": 32,
    "mlp_ratio": 4.0,
}
FLUX |= {"context_in_dim": WIDTH, "hidden_size": 128, "num_heads": 2, "depth": 1, "depth_single_blocks": 1}
FLUX |= {"axes_dim": [16, 24, 24], "theta": 10000, "qkv_bias": True, "guidance_embed": True}
LUMINA = {"image_model": "lumina2", "patch_size": 2, "in_channels": 16, "cap_feat_dim": WIDTH, "n_layers": 1}
LUMINA |= {"n_refiner_layers": 1, "qk_norm": True, "n_heads": 2, "n_kv_heads": 2, "axes_dims": [16, 24, 24]}
LUMINA |= {"axes_lens": [300, 512, 512], "dim": 128}
QWEN = {"image_model": "qwen_image", "in_channels": 16, "num_layers": 1, "attention_head_dim": 32}
QWEN |= {"num_attention_heads": 2, "joint_attention_dim": WIDTH, "axes_dims_rope": (8, 12, 12)}
LLAMA = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
LLAMA |= {"num_key_value_heads": 2}  # of 128 numbers each
FAMILIES = ("flux1", "z-image", "qwen-image")


def model_of(family: str) -> Any:
    """A MODEL of the host's class with random weights."""
    import comfy.model_patcher
    import comfy.supported_models as host

    kinds = {"flux1": (host.Flux, FLUX), "z-image": (host.ZImage, LUMINA), "qwen-image": (host.QwenImage, QWEN)}
    kind, sizes = kinds[family]
    config = kind(dict(sizes))
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    model = config.get_model({}, "", device=cpu)
    randomised(model)
    if family == "z-image":
        config.unet_config["dim"] = 3840  # by which the host tells it from Lumina 2; the weights here stay narrow
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def randomised(module: torch.nn.Module) -> None:
    """The host leaves weights unset: it reads them from a file."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                torch.randn(parameter.shape) * (0.2 if parameter.dim() > 1 else 0.1) + (parameter.dim() == 1)
            )


def clip_of(family: str) -> Any:
    """The family's own CLIP class with its own tokenizer, and an encoder of two layers."""
    import comfy.sd
    import comfy.sd1_clip
    import comfy.supported_models_base
    import comfy.text_encoders.flux as flux
    import comfy.text_encoders.llama as llama
    import comfy.text_encoders.qwen_image as qwen
    import comfy.text_encoders.t5 as t5
    import comfy.text_encoders.z_image as z_image

    class SmallT5(comfy.sd1_clip.SDClipModel):  # type: ignore[misc]
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}) -> None:  # noqa: B006
            config = {"d_ff": 64, "d_kv": 32, "d_model": WIDTH, "num_heads": 2, "num_layers": 2, "vocab_size": 32128}
            config |= {"dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, "model_type": "t5"}
            super().__init__(
                device=device,
                dtype=dtype,
                layer="last",
                textmodel_json_config=config,
                special_tokens={"end": 1, "pad": 0},
                model_class=t5.T5,
                model_options=model_options,
            )

    class SmallFlux(flux.FluxClipModel):  # type: ignore[misc]
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}) -> None:  # noqa: B006
            torch.nn.Module.__init__(self)
            small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1, "num_hidden_layers": 1}
            small |= {"hidden_act": "quick_gelu", "max_position_embeddings": 77, "eos_token_id": 49407}
            self.clip_l = comfy.sd1_clip.SDClipModel(device, dtype=dtype, textmodel_json_config=small)
            self.t5xxl = SmallT5(device, dtype, model_options)
            self.dtypes = {dtype}

    def language_model(kind: type, parent: type, name: str, layer: dict[str, Any]) -> type:
        class Small(comfy.sd1_clip.SDClipModel):  # type: ignore[misc]
            def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}, **_: Any) -> None:  # noqa: B006
                super().__init__(
                    device=device,
                    dtype=dtype,
                    textmodel_json_config=dict(LLAMA),
                    special_tokens={"pad": 151643},
                    layer_norm_hidden_state=False,
                    model_class=kind,
                    enable_attention_masks=True,
                    return_attention_masks=True,
                    model_options=model_options,
                    **layer,
                )

        class SmallClip(parent):  # type: ignore[misc, valid-type]
            def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}) -> None:  # noqa: B006
                comfy.sd1_clip.SD1ClipModel.__init__(self, device, dtype, model_options, name=name, clip_model=Small)

        return SmallClip

    hidden = {"layer": "hidden", "layer_idx": -2}
    targets = {
        "flux1": (flux.FluxTokenizer, SmallFlux),
        "z-image": (
            z_image.ZImageTokenizer,
            language_model(llama.Qwen3_4B, z_image.ZImageTEModel, "qwen3_4b", hidden),
        ),
        "qwen-image": (
            qwen.QwenImageTokenizer,
            language_model(llama.Qwen25_7BVLI, qwen.QwenImageTEModel, "qwen25_7b", {"layer": "last"}),
        ),
    }
    clip = comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(*targets[family]))
    randomised(clip.cond_stage_model)
    return clip


@pytest.fixture(scope="module", params=FAMILIES)
def denoiser(request: pytest.FixtureRequest, pack: ModuleType) -> Any:
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    with torch.inference_mode(False), torch.no_grad():
        return UnloadedDenoiser(model_of(request.param), clip_of(request.param))


def asked() -> Request:
    targets = (
        Target("a church", "a castle", ("a chapel",), TEMPLATES),
        Target("a soccer ball", "a cat", (), TEMPLATES),
    )
    return Request(targets, ("a dog", "a truck", "a violin"))


def test_the_places_of_words_are_those_of_the_states(denoiser: Any) -> None:
    """What stands behind the last word alone changes with another end, what stands before it with another beginning."""
    ends = [denoiser.token_count(text) for text in ("a photo of", "a photo of a church", "a photo of a church tower")]
    assert ends[0] < ends[1] < ends[2]
    assert denoiser.token_count("a photo of ") == ends[0]  # templates are cut behind a space
    if denoiser.family == "flux1":
        return  # T5 reads both ways: every state knows of every word
    one, two = (denoiser.encode([text]).tokens[0] for text in ("a photo of a church", "a photo of a castle"))
    differs = (one - two).abs().sum(1) > 0
    first = int(differs.nonzero()[0])
    assert ends[0] <= first < ends[1]
    longer = denoiser.encode(["a photo of a church tower"]).tokens[0]
    assert torch.equal(longer[: ends[1]], one[: ends[1]]) and not torch.equal(longer[ends[1]], one[ends[1]])


def moved(denoiser: Any, entries: Any, before: str, after: str) -> float:
    """How much nearer what the door reads of `before` comes to what it read of `after`: 1 is there, 0 or less no nearer."""
    (key,) = entries
    weight = denoiser.weights("xattn-kv")[key].double()
    s, g = (denoiser.as_read(denoiser.encode([text]).tokens)[0].double() for text in (before, after))
    edited = s @ (weight + entries[key].delta().double()).T
    return float(1 - (edited - g @ weight.T).norm() / ((s - g) @ weight.T).norm())


@pytest.mark.parametrize("method", ["uce", "time", "dp"])
def test_a_closed_form_leads_the_concept_to_its_anchor_and_leaves_the_rest(denoiser: Any, method: str) -> None:
    request = asked()
    settings = configure(METHODS[method], denoiser.family, request, {})
    result = erase(denoiser, request, METHODS[method], settings, dtype=torch.float32)
    entries = result.erasure.entries
    assert len(entries) == 1 and all(reads_text(key) for key in entries)
    assert result.erasure.family == denoiser.family
    if method == "uce":  # the others look at single tokens
        gone = moved(denoiser, entries, "a church on a table", "a castle on a table")
        kept = moved(denoiser, entries, "a dog on a table", "a castle on a table")
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
    assert loaded.family == denoiser.family and path.stat().st_size < 1_000_000
    patched, _ = comfy.sd.load_lora_for_models(denoiser._model, None, comfy.utils.load_torch_file(str(path)), 1.0, 0.0)
    ((key, entry),) = loaded.entries.items()
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
    assert "a soccer ball" in joint.facts["erasure.targets"] and len(joint.entries) == 1
    assert moved(denoiser, joint.entries, *pair) > 0.05 + moved(denoiser, made[1].entries, *pair)


def test_the_node_solves_saves_and_hands_on(denoiser: Any, pack: ModuleType) -> None:
    from concept_eraser_pack.nodes import closed_form, closed_form_run
    from concept_eraser_pack.nodes.host import model as host_model

    words = {"concepts": "church", "anchor": "a castle", "retain": "a dog", "precision": "fp16"}
    words["filename_prefix"] = f"loras/{denoiser.family}"
    model, clip, choice = denoiser._model, denoiser._clip, closed_form.CHOICES["UCE"]
    (sanitized, erasure, _), said = closed_form_run.solve(model, clip, choice, words, "")
    assert "church -> a castle" in said and erasure.family == denoiser.family
    (key,) = erasure.entries
    before, after = (host_model.patched_weights(m, "xattn-kv")[key] for m in (model, sanitized))
    assert not torch.equal(before, after)
    with pytest.raises(RequestError, match="made for a model of the family"):
        host_model.apply_erasure(model_of("flux1" if denoiser.family != "flux1" else "z-image"), erasure, 1.0, "")


def test_training_is_refused_in_words(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    with pytest.raises(ModelError, match=r"only closed forms work on this MODEL \(flux1\)"):
        HostDenoiser(model_of("flux1"), clip_of("flux1"), 64, 64)


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
    read = denoiser.as_read(torch.zeros(1, 4, WIDTH))
    assert not read.any()
    assert isinstance(denoiser.encode(["a church"]), Context)
