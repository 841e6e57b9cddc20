"""The judge: names the object and the style of a 64 px drawing. It also knows objects that the generator never saw, and "other"."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent
WEIGHTS = FOLDER / "judge.safetensors"
OTHER = "other"
WIDTHS = (32, 64, 128, 192)


class JudgeScores(NamedTuple):
    """Logits of one batch."""

    object_logits: Tensor  # [b, objects + 1]; the last class is "other"
    style_logits: Tensor  # [b, styles]


class Residual(nn.Module):
    """Two 3x3 convolutions and a strided shortcut; halves the picture."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.na = nn.BatchNorm2d(after)
        self.b = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.nb = nn.BatchNorm2d(after)
        self.s = nn.Conv2d(before, after, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[b, before, h, w] -> [b, after, h/2, w/2]."""
        return F.relu(self.nb(self.b(F.relu(self.na(self.a(x))))) + self.s(x))


class Judge(nn.Module):
    """A small convolutional network with two heads on one set of features."""

    def __init__(self, objects: tuple[str, ...], styles: tuple[str, ...], widths: tuple[int, ...] = WIDTHS) -> None:
        """`objects` names the object classes, "other" last; `styles` names the style classes."""
        super().__init__()
        self.objects, self.styles, self.widths = objects, styles, widths
        blocks = [Residual(before, after) for before, after in pairwise(widths)]
        self.trunk = nn.Sequential(nn.Conv2d(3, widths[0], 3, 2, 1), nn.BatchNorm2d(widths[0]), nn.ReLU(), *blocks)
        self.object_head = nn.Linear(widths[-1], len(objects))
        self.style_head = nn.Linear(widths[-1], len(styles))

    def features(self, images: Tensor) -> Tensor:
        """Images [b, 3, 64, 64] in [0, 1] -> features [b, 192], differentiable."""
        return self.trunk(images * 2 - 1).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> JudgeScores:
        """Images [b, 3, 64, 64] in [0, 1] -> logits, differentiable."""
        features = self.features(images)
        return JudgeScores(self.object_head(features), self.style_head(features))

    @torch.no_grad()
    def classify(self, images: Tensor, batch: int = 128) -> JudgeScores:
        """Images [b, 3, 64, 64] in [0, 1] -> logits, in eval mode and in batches."""
        training = self.training
        self.eval()
        device = self.object_head.weight.device
        parts = [self(part.to(device=device, dtype=torch.float32)) for part in images.split(batch)]
        self.train(training)
        return JudgeScores(torch.cat([p.object_logits for p in parts]), torch.cat([p.style_logits for p in parts]))

    def name(self, images: Tensor) -> list[tuple[str, str]]:
        """The (object, style) that each picture is taken for."""
        scores = self.classify(images)
        pairs = zip(scores.object_logits.argmax(1).tolist(), scores.style_logits.argmax(1).tolist(), strict=True)
        return [(self.objects[o], self.styles[s]) for o, s in pairs]


def load_judge(path: str | Path | None = None, device: str | torch.device = "cpu") -> Judge:
    """Read the shipped judge, or another with its JSON beside it; fp32, eval mode, frozen."""
    weights = Path(path) if path is not None else WEIGHTS
    facts: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    judge = Judge(tuple(facts["objects"]), tuple(facts["styles"]), tuple(facts["widths"]))
    tensors = {
        key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in load_file(weights).items()
    }
    judge.load_state_dict(tensors)
    return judge.requires_grad_(False).eval().to(device)
