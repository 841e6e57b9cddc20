"""FID and KID: how far a set of pictures is from a reference set (a folder, or the untouched model's pictures).

FID: Frechet distance of Gaussians fitted to features (Heusel et al., arXiv 1706.08500, eq. 6). KID: squared maximum
mean discrepancy with the cubic kernel (Binkowski et al., arXiv 1801.01401, sec. 4). Both work on features, in float64,
so a suite keeps features and not pictures. Inception's are FID and KID; those of the pocket's judge are called
judge-FID and judge-KID.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from ...errors import ModelError, RequestError
from ...pocket.judge import Judge
from ..optional import optional
from .weights import check_pictures, read_weights

WANTED = "the FID's Inception weights (weights-inception-2015-12-05-6726825d of the package torch-fidelity)"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Extractor(Protocol):
    """Pictures to features; `prefix` goes before FID and KID wherever a figure of its features is shown."""

    prefix: str

    def features(self, images: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] in [0, 1] to [b, d] on the CPU."""


class InceptionFeatures:
    """The 2048 features that papers report, through torchmetrics; `weights` is a local safetensors file. ModelError says what is
    missing."""

    prefix = ""

    def __init__(self, weights: Path, device: str | torch.device = "cpu"):
        tensors = read_weights(weights, WANTED)
        optional("torch_fidelity", "FID", "torch-fidelity")
        build = optional("torchmetrics.image.fid", "FID", "torchmetrics").NoTrainInceptionV3
        # torch-fidelity loads what torch.save wrote, and would run it: it is given a copy of the tensors, from memory
        copy = io.BytesIO()
        torch.save(tensors, copy)
        copy.seek(0)
        try:
            self._network: Any = build("inception-v3-compat", ["2048"], copy).to(device)
        except Exception as error:  # a damaged or foreign file raises a dozen kinds
            raise ModelError(
                f"cannot read {weights.resolve()} ({error}): it should be {WANTED}".replace("\n", " ")
            ) from error
        self._device = torch.device(device)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        check_pictures(images)
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).to(self._device)
        return self._network(pixels).cpu()


class JudgeFeatures:
    """The pocket judge's 192 features of pictures [b, 3, 64, 64]."""

    prefix = "judge-"

    def __init__(self, judge: Judge):
        self._judge = judge

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        check_pictures(images)
        return self._judge.features(images.to(self._judge.object_head.weight)).cpu()


def extract(extractor: Extractor, batches: Iterable[Tensor]) -> Tensor:
    """Features [n, d] of batches of pictures as they come. RequestError if there are none."""
    parts = [extractor.features(batch) for batch in batches]
    if not parts:
        raise RequestError("there are no pictures to compare")
    return torch.cat(parts)


def pictures_in(folder: Path) -> Iterator[Tensor]:
    """The pictures of a folder in the order of their names, each [1, 3, h, w] in [0, 1]. RequestError if it has none."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES) if folder.is_dir() else []
    if not paths:
        raise RequestError(f"the reference folder {folder} holds no pictures ({', '.join(PICTURES)})")
    for path in paths:
        with Image.open(path) as picture:
            yield to_tensor(picture)


def to_tensor(picture: Image.Image) -> Tensor:
    """[1, 3, h, w] in [0, 1]."""
    rgb = picture.convert("RGB")
    pixels = torch.frombuffer(bytearray(rgb.tobytes()), dtype=torch.uint8)
    return pixels.view(1, rgb.height, rgb.width, 3).permute(0, 3, 1, 2) / 255


def frechet_distance(reference: Tensor, features: Tensor) -> float:
    """FID of features [n, d] and [m, d]: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). RequestError below 2 pictures.

    It is biased upwards for small sets: compare only figures of equal n, and prefer KID below some thousands.
    """
    (m1, s1), (m2, s2) = (_moments(x) for x in (reference, features))
    # tr (S1 S2)^(1/2) = tr (R S2 R)^(1/2) with R = S1^(1/2): symmetric, so no complex roots where S is singular.
    values, vectors = torch.linalg.eigh(s1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    return float((m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * cross)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    if len(x) < 2:
        raise RequestError(f"FID and KID need at least two pictures in each set, one has {len(x)}")
    return x.double().mean(0), torch.cov(x.double().T).view(x.shape[1], x.shape[1])


@dataclass(frozen=True)
class Kernel:
    """KID: the mean over subsets and their standard deviation."""

    mean: float
    std: float


def kernel_distance(
    reference: Tensor, features: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> Kernel:
    """KID of features [n, d] and [m, d], unbiased; kernel (x y / d + 1)^3.

    Mean and deviation over `subsets` random draws of `subset_size` from each set (torchmetrics' defaults), at most as
    large as the smaller set, from a generator with this seed.
    """
    size = min(subset_size, len(reference), len(features))
    if size < 2:
        raise RequestError("FID and KID need at least two pictures in each set")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(subsets):
        x, y = (f.double()[torch.randperm(len(f), generator=generator)[:size]] for f in (reference, features))
        found.append(_discrepancy(x, y))
    values = torch.stack(found)
    return Kernel(float(values.mean()), float(values.std(unbiased=False)))


def _discrepancy(x: Tensor, y: Tensor) -> Tensor:
    m = len(x)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    xx, yy = (k.sum() - k.trace() for k in (kernel(x, x), kernel(y, y)))
    return (xx + yy) / (m * (m - 1)) - 2 * kernel(x, y).mean()


def set_distances(extractor: Extractor, reference: Tensor, features: Tensor, seed: int = 0) -> dict[str, float]:
    """Both figures under the names that tables show: FID, KID and its deviation, with the extractor's prefix."""
    kid = kernel_distance(reference, features, seed=seed)
    named = {"FID": frechet_distance(reference, features), "KID": kid.mean, "KID std": kid.std}
    return {extractor.prefix + name: value for name, value in named.items()}
