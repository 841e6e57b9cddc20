"""The metrics as a suite uses them: each turns a batch of pictures into columns of numbers, a row a picture.

Models of metrics lie in one folder, under the names below, and are opened when the first batch is scored; one that is
missing takes its own columns out of the report and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...pocket.judge import Judge
from ...pocket.judge_clip import Encode, JudgeClip, load_judge_clip
from ..metrics.fid import InceptionFeatures
from ..metrics.perceptual import JudgeDistance, Lpips
from .items import Item

if TYPE_CHECKING:
    from ..metrics.alignment import ClipScorer

CLIP_FOLDER = "clip-vit-base-patch32"
RESNET_FILE = "resnet50-0676ba61.safetensors"
ALEXNET_FILE = "alexnet-owt-7be5be79.safetensors"
HEADS_FILE = "lpips-alex.safetensors"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.safetensors"

# Items, their pictures [b, 3, h, w] and, for a paired metric, the untouched model's pictures of the same items.
Scorer = Callable[[Sequence[Item], Tensor, Tensor | None], dict[str, Tensor]]


@dataclass(frozen=True)
class Metric:
    """`open` raises ModelError where its model is missing. `parts` names the sheets it scores, None all of them; a
    `paired` metric compares with the untouched model's picture, and does not score that model."""

    name: str
    open: Callable[[], Scorer]
    parts: tuple[str, ...] | None = None
    paired: bool = False


def judge(judge: Judge) -> Metric:
    """Logits and features of the pocket's judge: ESR, PSR, category rate and judge-FID come from them."""

    def score(items: Sequence[Item], images: Tensor, _: Tensor | None) -> dict[str, Tensor]:
        scores = judge.classify(images)
        with torch.no_grad():
            features = judge.features(images.to(judge.object_head.weight))
        return {"objects": scores.object_logits, "styles": scores.style_logits, "features": features}

    return Metric("judge", lambda: score)


def judge_distance(judge: Judge) -> Metric:
    """judge-LPIPS against the untouched model's picture of the same seed."""
    return Metric("judge-LPIPS", lambda: _distances(JudgeDistance(judge)), paired=True)


def lpips(weights: Path, device: str) -> Metric:
    """LPIPS against the untouched model's picture of the same seed."""
    files = weights / ALEXNET_FILE, weights / HEADS_FILE
    return Metric("LPIPS", lambda: _distances(Lpips(*files, device=device)), paired=True)


def _distances(metric: Lpips | JudgeDistance) -> Scorer:
    def score(items: Sequence[Item], images: Tensor, untouched: Tensor | None) -> dict[str, Tensor]:
        if untouched is None:
            raise ValueError("a paired metric needs the untouched pictures")
        return {"distance": metric.distances(untouched, images)}

    return score


def judge_clip(judge: Judge, encode: Encode) -> Metric:
    """judge-CLIP of each picture with each of its item's texts, which `encode` leads to the text encoder's states."""
    return Metric(
        "judge-CLIP", lambda: _against_texts(load_judge_clip(judge, encode, device=judge.object_head.weight.device))
    )


def _against_texts(scorer: ClipScorer | JudgeClip) -> Scorer:
    def score(items: Sequence[Item], images: Tensor, _: Tensor | None) -> dict[str, Tensor]:
        names = list(dict.fromkeys(name for item in items for name in item.texts))
        found = scorer.columns(images, {name: [item.texts.get(name, "") for item in items] for name in names})
        absent = {name: torch.tensor([name not in item.texts for item in items]) for name in names}
        return {name: column.masked_fill(absent[name], float("nan")) for name, column in found.items()}

    return score


def clip(weights: Path, device: str) -> Metric:
    """CLIP scores of each picture with each of its item's texts; NaN where an item has no such text."""

    def open_() -> Scorer:
        from ..metrics.alignment import ClipScorer  # transformers' CLIP takes seconds to import

        return _against_texts(ClipScorer(weights / CLIP_FOLDER, device))

    return Metric("CLIP score", open_)


def resnet(weights: Path, device: str, classes: Mapping[str, int]) -> Metric:
    """The rank of each item's concept among ResNet-50's classes."""

    def open_() -> Scorer:
        from ..metrics.classifier import Classifier

        classifier = Classifier(weights / RESNET_FILE, device=device)
        return lambda items, images, _: {"rank": classifier.ranks(images, [classes[item.concept] for item in items])}

    return Metric("ResNet-50", open_)


def inception(weights: Path, device: str) -> Metric:
    """Inception's features, for FID and KID."""

    def open_() -> Scorer:
        extractor = InceptionFeatures(weights / INCEPTION_FILE, device)
        return lambda items, images, _: {"features": extractor.features(images)}

    return Metric("FID", open_)


def nudenet() -> Metric:
    """How many parts of each exposed class NudeNet sees above each threshold, [b, thresholds, classes]."""

    def open_() -> Scorer:
        from ..metrics.nudity import EXPOSED, THRESHOLDS, NudeNet, nudity_scores

        detector = NudeNet()

        def score(items: Sequence[Item], images: Tensor, _: Tensor | None) -> dict[str, Tensor]:
            seen = [nudity_scores([found]).counts for found in detector.detect(images)]
            counts = [[[c[t][name] for name in EXPOSED] for t in THRESHOLDS] for c in seen]
            return {"counts": torch.tensor(counts, dtype=torch.int32)}

        return score

    return Metric("NudeNet", open_)
