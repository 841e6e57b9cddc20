"""Folders of transformers in diffusers' layout: the real classes of diffusers and transformers, narrow, with random weights.

The tokenizers know whole words: those of the lists that are kept, of the general vocabulary and of the templates.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import diffusers
import tiny_folder
import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from eraser_core.backends.transformer_texts import LUMINA, QWEN
from eraser_core.general_words import general_words
from eraser_core.keeping import TEMPLATES
from eraser_core.retain_lists import LISTS, kept

D = 48  # numbers of a token's state
WORDS = r"\n|<[^ >]+>|\w+|[^\w\s]"
SPECIAL = ["<pad>", "</s>", "<unk>", "<bos>", "<|im_start|>", "<|im_end|>"]
SENTENCES = [
    "a photo of a church on a table",
    "a castle, a dog, a truck and a violin",
    "a soccer ball chapel tower Wizard",
]
T5 = {"d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 2, "feed_forward_proj": "gated-gelu"}
LANGUAGE = {"hidden_size": D, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
LANGUAGE |= {"num_key_value_heads": 2, "head_dim": 24, "tie_word_embeddings": False}
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLIP = tiny_folder.SIZE | {"num_hidden_layers": 2, "max_position_embeddings": 77}


def vocabulary() -> list[str]:
    """Every word that the tests, the lists and the templates hold."""
    lists = [word for kind in LISTS for word in kept([], kind)]
    templates = [template for several in TEMPLATES.values() for template in several]
    texts = [*SENTENCES, *lists, *templates, *general_words("flux1"), LUMINA, QWEN, "user\nassistant"]
    found = [word for text in texts for word in re.findall(WORDS, text)]
    return list(dict.fromkeys([*SPECIAL, *found, *(word.lower() for word in found)]))


def tokenizer(path: Path, end: bool = False, start: bool = False) -> None:
    """A whole-word tokenizer as a folder; `end` and `start`: with a token behind or before the words."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary())}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    template = f"{'<bos> ' if start else ''}$A{' </s>' if end else ''}"
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("</s>", 1), ("<bos>", 3)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    fast.chat_template = None if end or start else CHAT
    fast.save_pretrained(path)


def t5(path: Path, kind: str = "T5", width: int = D) -> None:
    sizes = T5 | {"d_model": width, "vocab_size": len(vocabulary())}
    config = getattr(transformers, f"{kind}Config")(**sizes, pad_token_id=0)
    _saved(getattr(transformers, f"{kind}EncoderModel")(config), path)


def clip(path: Path, projection: int = 0) -> None:
    n = len(json.loads((path.with_name(path.name.replace("text_encoder", "tokenizer")) / "vocab.json").read_text()))
    sizes = CLIP | {"vocab_size": n, "bos_token_id": n - 2, "eos_token_id": n - 1}
    sizes |= {"projection_dim": projection} if projection else {}
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    _saved(kind(transformers.CLIPTextConfig(**sizes)), path)


def language(path: Path, family: str) -> None:
    sizes = LANGUAGE | {"vocab_size": len(vocabulary()), "pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 1}
    if family == "qwen-image":
        turned = {"type": "mrope", "mrope_section": [4, 4, 4], "rope_type": "default"}
        vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": D}
        config = transformers.Qwen2_5_VLConfig(
            text_config=sizes | {"rope_scaling": turned, "rope_parameters": turned | {"rope_theta": 1e6}},
            vision_config=vision | {"fullatt_block_indexes": [0]},
        )
        return _saved(transformers.Qwen2_5_VLForConditionalGeneration(config), path)
    if family == "lumina2":
        config = transformers.Gemma2Config(**sizes, query_pre_attn_scalar=24)
        return _saved(transformers.Gemma2Model(config), path)
    if family == "flux2":
        sizes |= {"num_hidden_layers": 28}  # the 27th is read
    return _saved(transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes)), path)


def _saved(model: Any, path: Path) -> None:
    """Random enough for states to differ from each other."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * (0.2 if parameter.dim() > 1 else 0.1))
    model.save_pretrained(path)


# family: diffusers' classes of the pipeline and the transformer, and the latter's sizes
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flux1": (
        "FluxPipeline",
        "FluxTransformer2DModel",
        {"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": D, "pooled_projection_dim": 32, **HEADS},
    ),
    "flux2": (
        "Flux2KleinPipeline",
        "Flux2Transformer2DModel",
        {
            **{"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 3 * D, "axes_dims_rope": (4, 4, 4, 4)},
            **{"timestep_guidance_channels": 16, "in_channels": 8, "out_channels": 8, **HEADS},
        },
    ),
    "chroma": (
        "ChromaPipeline",
        "ChromaTransformer2DModel",
        {
            **{"num_layers": 1, "num_single_layers": 1, "joint_attention_dim": D, "approximator_hidden_dim": 16},
            **{"approximator_num_channels": 8, "approximator_layers": 1, **HEADS},
        },
    ),
    "sd3": (
        "StableDiffusion3Pipeline",
        "SD3Transformer2DModel",
        {
            **{"sample_size": 8, "num_layers": 1, "joint_attention_dim": 80, "caption_projection_dim": 32},
            **{"pooled_projection_dim": 48, "pos_embed_max_size": 4, **HEADS},
        },
    ),
    "qwen-image": (
        "QwenImagePipeline",
        "QwenImageTransformer2DModel",
        {"num_layers": 1, "joint_attention_dim": D, "axes_dims_rope": (4, 6, 6), **HEADS},
    ),
    "z-image": (
        "ZImagePipeline",
        "ZImageTransformer2DModel",
        {
            **{"dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": D},
            **{"axes_dims": [4, 6, 6], "axes_lens": [64, 32, 32]},
        },
    ),
    "lumina2": (
        "Lumina2Pipeline",
        "Lumina2Transformer2DModel",
        {
            **{"hidden_size": 32, "num_layers": 1, "num_refiner_layers": 1, "num_attention_heads": 2},
            **{"num_kv_heads": 2, "cap_feat_dim": D, "axes_dim_rope": (4, 6, 6), "axes_lens": (64, 32, 32)},
        },
    ),
    "pixart-sigma": (
        "PixArtSigmaPipeline",
        "PixArtTransformer2DModel",
        {
            **{"num_layers": 2, "cross_attention_dim": 32, "caption_channels": D, "norm_num_groups": 8},
            **{"sample_size": 8, "use_additional_conditions": False, **HEADS},
        },
    ),
    "wan": (
        "WanPipeline",
        "WanTransformer3DModel",
        {"num_layers": 1, "text_dim": D, "ffn_dim": 32, "freq_dim": 16, **HEADS},
    ),
}
FAMILIES = tuple(MODELS)


def transformer_folder(path: Path, family: str) -> Path:
    """The folder of a family: everything but the VAE and the scheduler, which nobody reads."""
    torch.manual_seed(0)
    pipeline, name, sizes = MODELS[family]
    index: dict[str, Any] = {"_class_name": pipeline, "transformer": ["diffusers", name]}
    _saved(getattr(diffusers, name)(**sizes), path / "transformer")
    if family == "flux1":
        tiny_folder.tokenizer(path / "tokenizer", 77)
        clip(path / "text_encoder")
        tokenizer(path / "tokenizer_2", end=True)
        t5(path / "text_encoder_2")
    elif family == "sd3":
        for end, projection, filling in (("", 16, ""), ("_2", 32, "!")):  # OpenCLIP fills with its first token
            tiny_folder.tokenizer(path / f"tokenizer{end}", 77, filling)
            clip(path / f"text_encoder{end}", projection)
        tokenizer(path / "tokenizer_3", end=True)
        t5(path / "text_encoder_3", width=80)  # more numbers than both CLIPs together
        index["text_encoder_3"] = ["transformers", "T5EncoderModel"]
    elif family in ("flux2", "qwen-image", "z-image", "lumina2"):
        tokenizer(path / "tokenizer", start=family == "lumina2")
        language(path / "text_encoder", family)
    else:
        tokenizer(path / "tokenizer", end=True)
        t5(path / "text_encoder", "UMT5" if family == "wan" else "T5")
    (path / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return path
