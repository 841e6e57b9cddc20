"""Transformers of the host's own classes, narrow and with random weights, each with its family's CLIP and tokenizer."""

from __future__ import annotations

import dataclasses
import io
from typing import Any
from unittest.mock import patch

import torch

WIDTH = 256
WIDE = 4096  # Stable Diffusion 3's class fills CLIP's states up to it with zeros
CONTEXTS = {"flux2": 3 * WIDTH}  # the others' states have WIDTH numbers
FLUX = {"in_channels": 16, "patch_size": 2, "out_channels": 16, "vec_in_dim": 32, "mlp_ratio": 4.0}
FLUX |= {"context_in_dim": WIDTH, "hidden_size": 128, "num_heads": 2, "depth": 1, "depth_single_blocks": 1}
FLUX |= {"axes_dim": [16, 24, 24], "theta": 10000, "qkv_bias": True}
FLUX_2 = FLUX | {"vec_in_dim": None, "context_in_dim": 3 * WIDTH, "axes_dim": [16, 16, 16, 16], "patch_size": 1}
FLUX_2 |= {"in_channels": 128, "out_channels": 128, "mlp_ratio": 3.0, "qkv_bias": False, "ops_bias": False}
FLUX_2 |= {"global_modulation": True, "mlp_silu_act": True, "guidance_embed": True}
CHROMA = {key: value for key, value in FLUX.items() if key != "vec_in_dim"}
CHROMA |= {"in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 128, "hidden_dim": 64, "n_layers": 1}
LUMINA = {"patch_size": 2, "in_channels": 16, "cap_feat_dim": WIDTH, "n_layers": 1}
LUMINA |= {"n_refiner_layers": 1, "qk_norm": True, "n_heads": 2, "n_kv_heads": 2, "axes_dims": [16, 24, 24]}
LUMINA |= {"axes_lens": [300, 512, 512], "dim": 128}
QWEN = {"in_channels": 64, "num_layers": 1, "attention_head_dim": 32}
QWEN |= {"num_attention_heads": 2, "joint_attention_dim": WIDTH, "axes_dims_rope": (8, 12, 12)}
MMDIT: dict[str, Any] = {"in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 2, "input_size": None}
MMDIT |= {"adm_in_channels": 96, "num_patches": 16, "pos_embed_max_size": 4, "qk_norm": "rms"}
MMDIT |= {"pos_embed_scaling_factor": None, "x_block_self_attn_layers": [0]}
MMDIT["context_embedder_config"] = {"target": "torch.nn.Linear", "params": {"in_features": WIDTH, "out_features": 128}}
PIXART = {"patch_size": 2, "hidden_size": 96, "depth": 2, "num_heads": 2, "caption_channels": WIDTH}
PIXART |= {"micro_condition": False, "model_max_length": 300}
WAN = {"model_type": "t2v", "dim": 128, "ffn_dim": 64, "text_dim": WIDTH, "num_heads": 2, "num_layers": 1}
ANIMA = {"max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16}
ANIMA |= {"patch_spatial": 2, "patch_temporal": 1, "model_channels": 128, "num_blocks": 2, "num_heads": 2}
ANIMA |= {"crossattn_emb_channels": 1024, "concat_padding_mask": True, "pos_emb_cls": "rope3d"}
ANIMA |= {"pos_emb_learnable": True, "pos_emb_interpolation": "crop", "use_adaln_lora": True, "adaln_lora_dim": 32}
LLAMA = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
LLAMA |= {"num_key_value_heads": 2}  # of 128 numbers each
# family: the host's class, its word for the architecture, sizes
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flux1": ("Flux", "flux", FLUX | {"guidance_embed": True}),
    "flux2": ("Flux2", "flux2", FLUX_2),
    "chroma": ("Chroma", "chroma", CHROMA),
    "sd3": ("SD3", "", MMDIT),
    "z-image": ("ZImage", "lumina2", LUMINA),
    "lumina2": ("Lumina2", "lumina2", LUMINA),
    "qwen-image": ("QwenImage", "qwen_image", QWEN),
    "pixart-sigma": ("PixArtSigma", "pixart_sigma", PIXART),
    "wan": ("WAN21_T2V", "wan2.1", WAN),
    "anima": ("Anima", "anima", ANIMA),
}
FAMILIES = tuple(MODELS)
SENTENCES = [
    "a photo of a church on a table",
    "a castle, a dog, a truck and a violin",
    "a soccer ball, a cat, a chapel",
]
SENTENCES += ["a church tower", "the quick brown fox jumps over the lazy dog"]


def known(family: str) -> bool:
    """Whether the host has the family's class; those of before 2026 lack Anima's."""
    import comfy.supported_models as host

    return hasattr(host, MODELS[family][0])


def model_of(
    family: str, others: dict[str, Any] | None = None, weights: str = "random", dtype: torch.dtype = torch.float32
) -> Any:
    """A MODEL of the host's class; `others` are sizes other than the narrow ones.

    Its weights are "random", "unset" (in memory that nothing touches before it is read) or "none".
    """
    import comfy.model_patcher
    import comfy.supported_models as host

    name, word, sizes = MODELS[family]
    sizes = sizes | _asked_by_newer(family)
    config = getattr(host, name)({**sizes, **({"image_model": word} if word else {}), **(others or {})})
    config.set_inference_dtype(dtype, torch.bfloat16 if dtype.itemsize == 1 else None)
    cpu = torch.device("cpu")
    model = config.get_model({}, "", device=torch.device("meta") if weights == "none" else cpu)
    if weights == "random":
        randomised(model)
    if family == "z-image":
        config.unet_config["dim"] = 3840  # by which the host tells it from Lumina 2; the weights here stay narrow
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def _asked_by_newer(family: str) -> dict[str, Any]:
    """What hosts of 2026 want to be told besides."""
    from comfy.ldm.chroma.model import ChromaParams

    asked = {field.name for field in dataclasses.fields(ChromaParams)}
    found = {"txt_ids_dims": [3] if family == "flux2" else [], **({"vec_in_dim": None} if family == "chroma" else {})}
    return found if "txt_ids_dims" in asked and family in ("flux1", "flux2", "chroma") else {}


def randomised(module: torch.nn.Module) -> None:
    """The host leaves weights unset: it reads them from a file."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                torch.randn(parameter.shape) * (0.2 if parameter.dim() > 1 else 0.1) + (parameter.dim() == 1)
            )
        for name, buffer in module.named_buffers():
            if name.endswith("pos_embed"):
                buffer.copy_(torch.randn(buffer.shape))


def clip_of(family: str) -> Any:
    """The family's own CLIP class with its own tokenizer, and encoders of two or three layers."""
    import comfy.sd
    import comfy.supported_models_base

    tokenizer, kind, data = _target(family)
    clip = comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(tokenizer, kind), tokenizer_data=data)
    randomised(clip.cond_stage_model)
    remember(clip)
    return clip


def remember(clip: Any) -> None:
    """Encode each text once: the tests ask for the same ones many times."""
    encode, known = clip.encode_from_tokens, {}

    def remembered(tokens: Any, **words: Any) -> Any:
        key = repr((tokens, words))
        if key not in known:
            known[key] = encode(tokens, **words)
        found = known[key]
        return dict(found) if isinstance(found, dict) else found

    clip.encode_from_tokens = remembered


def _target(family: str) -> tuple[type, type, dict[str, Any]]:
    import comfy.text_encoders.flux as flux
    import comfy.text_encoders.llama as llama
    import comfy.text_encoders.lumina2 as lumina2
    import comfy.text_encoders.pixart_t5 as pixart
    import comfy.text_encoders.qwen_image as qwen
    import comfy.text_encoders.sd3_clip as sd3
    import comfy.text_encoders.wan as wan
    import comfy.text_encoders.z_image as z_image

    hidden: dict[str, Any] = {"layer": "hidden", "layer_idx": -2}
    if family == "flux1":
        return flux.FluxTokenizer, _with_clip(flux.FluxClipModel), {}
    if family == "sd3":
        return sd3.SD3Tokenizer, _with_clip(sd3.SD3ClipModel), {}
    if family in ("chroma", "pixart-sigma"):
        return pixart.PixArtTokenizer, _named(pixart.PixArtT5XXL, "t5xxl", _t5()), {}
    if family == "wan":
        pieces = sentence_pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
        masked = {"enable_attention_masks": True, "zero_out_masked": True}
        return wan.WanT5Tokenizer, _named(wan.WanT5Model, "umt5xxl", _t5(**masked)), {"spiece_model": pieces}
    if family == "z-image":
        kind = _language_model(llama.Qwen3_4B, **hidden)
        return z_image.ZImageTokenizer, _named(z_image.ZImageTEModel, "qwen3_4b", kind), {}
    if family == "qwen-image":
        kind = _language_model(llama.Qwen25_7BVLI, layer="last")
        return qwen.QwenImageTokenizer, _named(qwen.QwenImageTEModel, "qwen25_7b", kind), {}
    if family == "lumina2":
        pieces = sentence_pieces(pad_id=0, eos_id=1, bos_id=2, unk_id=3)
        kind = _language_model(llama.Gemma2_2B, vocabulary=int(1e3), **hidden)
        return lumina2.LuminaTokenizer, _named(lumina2.LuminaModel, "gemma2_2b", kind), {"spiece_model": pieces}
    if family == "flux2":
        kind = _language_model(llama.Mistral3Small24B, vocabulary=151936, layer=[0, 1, 2])
        return _flux2_tokenizer(), _named(flux.Flux2TEModel, "mistral3_24b", kind), {}
    import comfy.text_encoders.anima as anima

    kind = _language_model(llama.Qwen3_06B, width=1024, layer="last")
    return anima.AnimaTokenizer, _named(anima.AnimaTEModel, "qwen3_06b", kind), {}


def _flux2_tokenizer() -> type:
    """The host's, template and all, but for the words: Mistral's are not in the host, so they are Qwen's."""
    import comfy.text_encoders.flux as flux
    import comfy.text_encoders.qwen_image as qwen

    class Tokenizer(flux.Flux2Tokenizer):  # type: ignore[misc]
        def __init__(self, **words: Any) -> None:
            with patch.object(flux, "Mistral3Tokenizer", qwen.Qwen25_7BVLITokenizer):
                super().__init__(**words)

    return Tokenizer


def _named(parent: type, name: str, encoder: type) -> type:
    import comfy.sd1_clip

    class Narrow(parent):  # type: ignore[misc, valid-type]
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}) -> None:  # noqa: B006
            comfy.sd1_clip.SD1ClipModel.__init__(self, device, dtype, model_options, name=name, clip_model=encoder)

    return Narrow


def _t5(**words: Any) -> type:
    import comfy.sd1_clip
    import comfy.text_encoders.t5 as t5

    class NarrowT5(comfy.sd1_clip.SDClipModel):  # type: ignore[misc]
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}, **_: Any) -> None:  # noqa: B006
            config = {"d_ff": 64, "d_kv": 32, "d_model": WIDTH, "num_heads": 2, "num_layers": 2, "vocab_size": 32128}
            config |= {"dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, "model_type": "t5"}
            special = {"end": 1, "pad": 0}
            super().__init__(
                device=device,
                dtype=dtype,
                layer="last",
                textmodel_json_config=config,
                special_tokens=special,
                model_class=t5.T5,
                model_options=model_options,
                **words,
            )

    return NarrowT5


def _language_model(kind: type, width: int = WIDTH, vocabulary: int = 0, **layer: Any) -> type:
    import comfy.sd1_clip

    sizes = LLAMA | {"hidden_size": width} | ({"vocab_size": vocabulary} if vocabulary else {})

    class Narrow(comfy.sd1_clip.SDClipModel):  # type: ignore[misc]
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}, **_: Any) -> None:  # noqa: B006
            super().__init__(
                device=device,
                dtype=dtype,
                textmodel_json_config=dict(sizes),
                special_tokens={"pad": 0 if vocabulary else 151643},
                layer_norm_hidden_state=False,
                model_class=kind,
                enable_attention_masks=True,
                return_attention_masks=True,
                model_options=model_options,
                **layer,
            )

    return Narrow


def _with_clip(parent: type) -> type:
    """Flux.1's or Stable Diffusion 3's CLIP class: CLIP-L (32 wide), for the latter CLIP-G (64 wide) too, and T5."""
    import comfy.sd1_clip

    class WideT5(_t5()):  # type: ignore[misc]
        """Beside CLIP's states, which Stable Diffusion 3's class makes 4096 wide."""

        def encode_token_weights(self, pairs: Any) -> Any:
            states, *others = super().encode_token_weights(pairs)
            return torch.nn.functional.pad(states, (0, WIDE - WIDTH)), *others

    class Narrow(parent):  # type: ignore[misc, valid-type]
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = {}) -> None:  # noqa: B006
            torch.nn.Module.__init__(self)
            small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 1, "num_hidden_layers": 2}
            small |= {"hidden_act": "quick_gelu", "max_position_embeddings": 77, "eos_token_id": 49407}
            self.clip_l = comfy.sd1_clip.SDClipModel(device, dtype=dtype, textmodel_json_config=small)
            if "SD3" in parent.__name__:
                self.clip_g = comfy.sd1_clip.SDClipModel(
                    device, dtype=dtype, textmodel_json_config=small | {"hidden_size": 64, "intermediate_size": 64}
                )
                self.t5_attention_mask = False
            self.t5xxl = (WideT5 if "SD3" in parent.__name__ else _t5())(device, dtype, model_options)
            self.dtypes = {dtype}

        def encode_token_weights(self, pairs: Any) -> Any:
            states, *others = super().encode_token_weights(pairs)
            return states[..., :WIDTH], *others  # behind them are zeros only

    return Narrow


def sentence_pieces(**ids: int) -> torch.Tensor:
    """A tokenizer file of a few words in the format of those that the host reads from the text encoder's file."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=made,
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    return torch.frombuffer(bytearray(made.getvalue()), dtype=torch.uint8)
