"""judge-CLIP: how well a drawing fits a text, in the pocket model's world. The stand-in for the CLIP score, never called by its name.

Two towers that are there already are each led into one space: the judge's features of the picture, and the state of the
pocket model's text encoder at its last token, which has read the whole text. Only the two ways there were trained, on
drawings and captions (`scripts/pocket/train_judge_clip.py`), with CLIP's loss (Radford et al., arXiv 2103.00020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from .judge import Judge

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER / "judge_clip.safetensors"
FEATURES, HIDDEN, SHARED = 192, 256, 128

# Texts -> states of the text encoder [b, n, 192].
Encode = Callable[[Sequence[str]], Tensor]


class Towers(nn.Module):
    """The trained part: from either side's 192 numbers to unit vectors of 128."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, SHARED))
        self.text = nn.Linear(FEATURES, SHARED, bias=False)

    def images(self, features: Tensor) -> Tensor:
        """The judge's features [b, 192] -> unit vectors [b, 128]."""
        return F.normalize(self.image(features), dim=-1)

    def texts(self, states: Tensor) -> Tensor:
        """The text encoder's states [b, n, 192] -> unit vectors [b, 128]."""
        return F.normalize(self.text(states[:, -1]), dim=-1)


class JudgeClip:
    """Scores of pictures [b, 3, 64, 64] in [0, 1] against texts, as `evaluation.alignment.ClipScorer` gives them."""

    name = "judge-CLIP"

    def __init__(self, judge: Judge, encode: Encode, towers: Towers):
        self._judge, self._encode, self._towers = judge, encode, towers

    @torch.no_grad()
    def image_features(self, images: Tensor, batch: int = 128) -> Tensor:
        """Unit vectors [b, 128] of pictures, on the CPU."""
        weight = self._judge.object_head.weight
        parts = [self._towers.images(self._judge.features(part.to(weight))) for part in images.split(batch)]
        return torch.cat(parts).cpu()

    @torch.no_grad()
    def text_features(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """Unit vectors [len(texts), 128], on the CPU."""
        parts = [self._towers.texts(self._encode(texts[i : i + batch])) for i in range(0, len(texts), batch)]
        return torch.cat(parts).cpu()

    def columns(self, images: Tensor, texts: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
        """By column, [b] 100 cos(picture, its text): a text a picture."""
        seen = self.image_features(images)
        return {name: 100 * (seen * self.text_features(column)).sum(1) for name, column in texts.items()}


def load_judge_clip(
    judge: Judge, encode: Encode, path: Path | None = None, device: str | torch.device = "cpu"
) -> JudgeClip:
    """The shipped towers, or those of another file, on this judge and this text encoder; fp32, frozen."""
    towers = Towers()
    towers.load_state_dict({key: tensor.float() for key, tensor in load_file(path or WEIGHTS).items()})
    return JudgeClip(judge, encode, towers.requires_grad_(False).eval().to(device))
