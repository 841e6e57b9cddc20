"""The pocket models for ComfyUI's stock loader: classes that match their networks, their tokenizer and their text encoder.

CheckpointLoaderSimple reads any UNet in LDM layout, and any transformer of a class that it knows, once a class matches its
configuration; VAE and LoRA handling follow from the keys.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.latent_formats
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import folder_paths

log = logging.getLogger(__name__)

FILE, FLOW_FILE = "pocket.safetensors", "pocket_flow.safetensors"
SETTING = "ConceptEraser.ShowPocketModel"
FOLDER = Path(__file__).resolve().parents[2] / "eraser_core" / "pocket" / "checkpoint"
OTHER = "CONCEPT_ERASER_POCKET"  # a folder with a pocket checkpoint of one's own, for those who train it


def register() -> None:
    """Add the model classes, and the checkpoints to the loader's list unless the setting hides them.

    A checkpoint saved from a pocket model stays loadable in either case. Nothing is added for weights that are not there.
    """
    folder = Path(os.environ.get(OTHER) or FOLDER)
    found = False
    for name, class_of in ((FILE, model_class), (FLOW_FILE, flow_class)):
        weights = folder / name
        if not weights.is_file():
            log.warning("the pocket model's weights %s are missing: everything else works", weights)
            continue
        found = True
        # Before the host's own, whose class of the same transformer fits every width.
        comfy.supported_models.models.insert(
            0, class_of(json.loads(weights.with_suffix(".json").read_text(encoding="utf-8")))
        )
    if found and shown():
        folder_paths.add_model_folder_path("checkpoints", str(folder))


def shown() -> bool:
    """What the user's settings say about the pocket model: shown, unless the setting was switched off."""
    settings = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    try:
        return bool(json.loads(settings.read_text(encoding="utf-8")).get(SETTING, True))
    except (OSError, ValueError, AttributeError):
        return True


def model_class(facts: dict[str, Any]) -> type[comfy.supported_models.SD15]:
    """A `supported_models` class for the UNet and text encoder that `facts` (pocket.json) describe."""
    unet, text = facts["unet"], facts["text_encoder"]
    channels, heads = unet["block_out_channels"][0], unet["attention_head_dim"]

    class PocketLatents(comfy.latent_formats.LatentFormat):
        latent_channels = unet["in_channels"]

    class Pocket(comfy.supported_models.SD15):
        concept_eraser_family = "pocket"
        unet_config = comfy.supported_models.SD15.unet_config | {
            "context_dim": unet["cross_attention_dim"],
            "model_channels": channels,
            "in_channels": unet["in_channels"],
        }
        unet_extra_config = {  # noqa: RUF012 (the host's own way)
            "num_heads": -1,
            "num_head_channels": channels // (heads if isinstance(heads, int) else heads[0]),
        }
        latent_format = PocketLatents

        def inpaint_model(self) -> bool:
            """Never: the host takes more than four channels for an inpainting model."""
            return False

        def clip_target(self, state_dict: dict[str, Any] = {}) -> Any:  # noqa: B006 (the host's signature)
            return comfy.supported_models_base.ClipTarget(*text_classes(text, facts["vocabulary"]))

    return Pocket


def flow_class(facts: dict[str, Any]) -> type[comfy.supported_models.Lumina2]:
    """A `supported_models` class for the transformer and text encoder that `facts` (pocket_flow.json) describe."""
    own, text, schedule = facts["transformer"], facts["text_encoder"], facts["schedule"]
    first = comfy.supported_models.SD15  # whose names the text encoder and the autoencoder have

    class PocketLatents(comfy.latent_formats.LatentFormat):
        latent_channels = own["in_channels"]

    class PocketFlow(comfy.supported_models.Lumina2):
        concept_eraser_family = "pocket-flow"
        unet_config = {  # noqa: RUF012 (the host's own way)
            "image_model": "lumina2",
            "dim": own["hidden_size"],
            "cap_feat_dim": own["cap_feat_dim"],
        }
        unet_extra_config = {  # noqa: RUF012
            "patch_size": own["patch_size"],
            "in_channels": own["in_channels"],
            "n_refiner_layers": own["num_refiner_layers"],
            "n_heads": own["num_attention_heads"],
            "n_kv_heads": own["num_kv_heads"],
            "multiple_of": own["multiple_of"],
            "ffn_dim_multiplier": 4 * own["ffn_dim_multiplier"],  # diffusers counts from four times the width
            "axes_dims": own["axes_dim_rope"],
            "axes_lens": own["axes_lens"],
            "time_scale": schedule["time_scale"],
        }
        sampling_settings = {"multiplier": 1.0, "shift": schedule["shift"]}  # noqa: RUF012
        latent_format = PocketLatents
        vae_key_prefix = first.vae_key_prefix
        text_encoder_key_prefix = first.text_encoder_key_prefix
        process_clip_state_dict = first.process_clip_state_dict
        process_clip_state_dict_for_saving = first.process_clip_state_dict_for_saving

        def inpaint_model(self) -> bool:
            """Never, as for the first."""
            return False

        def clip_target(self, state_dict: dict[str, Any] = {}) -> Any:  # noqa: B006 (the host's signature)
            return comfy.supported_models_base.ClipTarget(*text_classes(text, facts["vocabulary"]))

    return PocketFlow


def text_classes(text: dict[str, Any], vocabulary: list[str]) -> tuple[type, type]:
    """(tokenizer, text encoder) classes as the host's SD1 ones, for a small CLIP with a vocabulary of words."""
    length, width = text["max_position_embeddings"], text["hidden_size"]
    start, end = vocabulary.index("<s>"), vocabulary.index("</s>")
    config = {"hidden_act": "quick_gelu", "eos_token_id": end} | text

    class PocketTokenizer(comfy.sd1_clip.SDTokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] = {}) -> None:  # noqa: B006
            super().__init__(
                "",
                max_length=length,
                embedding_directory=embedding_directory,
                embedding_size=width,
                tokenizer_class=_Words.of(vocabulary, length),
                tokenizer_data=tokenizer_data,
            )

        def unknown_words(self, text: str) -> list[str]:
            """The words of a text that the model has never heard."""
            return list(self.tokenizer.words.unknown_words(text))

    class PocketTokenizers(comfy.sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] = {}) -> None:  # noqa: B006
            super().__init__(embedding_directory, tokenizer_data, tokenizer=PocketTokenizer)

    class PocketText(comfy.sd1_clip.SDClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] = {}) -> None:  # noqa: B006
            super().__init__(
                device=device,
                max_length=length,
                textmodel_json_config=dict(config),
                dtype=dtype,
                special_tokens={"start": start, "end": end, "pad": end},
                return_projected_pooled=False,
                model_options=model_options,
            )
            # the host's own table has CLIP's 49,408 rows
            rows = self.operations.Embedding(len(vocabulary), width, dtype=dtype, device=device)
            self.transformer.set_input_embeddings(rows)

    class PocketClip(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] = {}) -> None:  # noqa: B006
            super().__init__(device, dtype, model_options, clip_model=PocketText)

    return PocketTokenizers, PocketClip


class _Words:
    """The engine's word tokenizer behind the few methods that the host calls on one of transformers'."""

    vocabulary: list[str]
    length: int

    def __init__(self) -> None:
        from eraser_core.pocket.tokenizer import WordTokenizer

        self.words = WordTokenizer(self.vocabulary, self.length)

    @classmethod
    def of(cls, vocabulary: list[str], length: int) -> type[_Words]:
        return type("PocketWords", (cls,), {"vocabulary": vocabulary, "length": length})

    @classmethod
    def from_pretrained(cls, _path: str, **_options: Any) -> _Words:
        return cls()

    def __call__(self, text: str) -> dict[str, list[int]]:
        """`<s> words </s>`, not padded."""
        return {"input_ids": [self.words.start_id, *self.words.word_ids(text), self.words.end_id]}

    def get_vocab(self) -> dict[str, int]:
        return dict(self.words.ids)
