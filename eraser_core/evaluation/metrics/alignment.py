"""CLIP score: how well a picture fits a text (Hessel et al., arXiv 2104.08718, with torchmetrics' scale of 100).

Computed with transformers, a picture at a time, so that scores can be paired by seed; their mean, cut off at 0, is
torchmetrics' CLIPScore. Two differences are meant: pictures are prepared with Pillow (as CLIP's authors do) whether
torchvision is there or not, and a text that is too long keeps its end token, which torchmetrics cuts off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from ...errors import ModelError, RequestError
from .weights import check_pictures

NEEDED = {
    "config.json": ("config.json",),
    "preprocessor_config.json": ("preprocessor_config.json",),
    "the tokenizer (tokenizer.json, or vocab.json and merges.txt)": ("tokenizer.json", "vocab.json"),
    "the weights (model.safetensors)": ("model.safetensors",),
}


class ClipScorer:
    """A CLIP model in a local folder of transformers' layout; the slides use openai/clip-vit-base-patch32.

    ModelError names what the folder lacks; nothing is downloaded.
    """

    name = "CLIP score"

    def __init__(self, folder: Path, device: str | torch.device = "cpu"):
        lacking = [said for said, files in NEEDED.items() if not any((folder / file).is_file() for file in files)]
        if lacking:
            raise ModelError(
                f"the CLIP score needs a CLIP model in a folder, such as openai/clip-vit-base-patch32: {folder.resolve()} "
                f"lacks {', '.join(lacking)}. Nothing is downloaded: put the files there"
            )
        try:
            self._model: Any = (
                CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval().to(device)
            )
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            self._prepare: Any = _pillow_processor().from_pretrained(folder, local_files_only=True)
        except Exception as error:  # a damaged file raises a dozen kinds
            raise ModelError(f"cannot load the CLIP model in {folder}: {error}".replace("\n", " ")) from error
        self._device = torch.device(device)

    @torch.no_grad()
    def image_features(self, images: Tensor, batch: int = 32) -> Tensor:
        """Unit vectors [b, d] of pictures [b, 3, h, w] in [0, 1], taken as their PNG files would be; on the CPU."""
        check_pictures(images)
        parts = []
        for part in images.split(batch):
            pixels = list((part.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8))
            ready = self._prepare(images=pixels, return_tensors="pt", input_data_format="channels_first")
            parts.append(_unit(self._model.get_image_features(pixel_values=ready["pixel_values"].to(self._device))))
        return torch.cat(parts)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """Unit vectors [len(texts), d], on the CPU."""
        longest = int(self._model.config.text_config.max_position_embeddings)
        parts = []
        for first in range(0, len(texts), batch):
            words = list(texts[first : first + batch])
            ready = self._tokenizer(words, padding=True, truncation=True, max_length=longest, return_tensors="pt")
            ids, mask = ready["input_ids"].to(self._device), ready["attention_mask"].to(self._device)
            parts.append(_unit(self._model.get_text_features(input_ids=ids, attention_mask=mask)))
        return torch.cat(parts)

    def scores(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """[b] 100 cos(picture, its text): a text a picture."""
        return self.columns(images, {"text": texts})["text"]

    def columns(self, images: Tensor, texts: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
        """The same for several texts a picture, by name: its prompt, the erased concept, its prompt without it."""
        for name, column in texts.items():
            if len(column) != len(images):
                raise RequestError(f"{len(images)} pictures need as many texts, {name!r} has {len(column)}")
        seen = self.image_features(images)
        return {name: 100 * (seen * self.text_features(column)).sum(1) for name, column in texts.items()}


def clip_score(scores: Tensor) -> float:
    """The figure that tables show: max(mean, 0) over pictures, as torchmetrics has it."""
    return max(float(scores.double().mean()), 0.0)


def _unit(features: Any) -> Tensor:
    # transformers 5 wraps the projected features in an output object.
    found: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return torch.nn.functional.normalize(found.float(), dim=-1).cpu()


def _pillow_processor() -> Any:
    """transformers 5 names the Pillow one apart, where the plain name means torchvision's when that is installed."""
    return getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
