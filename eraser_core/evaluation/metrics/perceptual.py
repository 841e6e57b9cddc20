"""LPIPS: how different two pictures look (Zhang et al., arXiv 1801.03924, eq. 1, AlexNet, version 0.1).

The backbone is torchvision's AlexNet from the user's disk, the five learnt weights a channel (6 kB) those that come with
the packages torchmetrics and lpips; both converted to safetensors. `JudgeDistance` is the pocket model's stand-in: the same formula on the
judge's features without learnt weights. Its figures are called judge-LPIPS, never LPIPS.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ModelError
from ...pocket.judge import Judge
from .weights import check_pictures, fill, read_weights

WANTED = "torchvision's AlexNet weights (alexnet-owt-7be5be79.pth)"
WANTED_HEADS = "LPIPS 0.1's weights for AlexNet (alex.pth inside the packages torchmetrics and lpips)"
HEADS_IN_PACKAGES = (("torchmetrics", "functional/image/lpips_models/alex.pth"), ("lpips", "weights/v0.1/alex.pth"))
CHANNELS = (64, 192, 384, 256, 256)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class AlexNet(nn.Module):
    """The convolutions of torchvision's AlexNet under its names; what each puts out after its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        layers: dict[str, nn.Module] = {
            "0": nn.Conv2d(3, 64, 11, 4, 2),
            "3": nn.Conv2d(64, 192, 5, 1, 2),
            "6": nn.Conv2d(192, 384, 3, 1, 1),
            "8": nn.Conv2d(384, 256, 3, 1, 1),
            "10": nn.Conv2d(256, 256, 3, 1, 1),
        }
        self.features = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for name, convolution in self.features.items():
            if name in ("3", "6"):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(convolution(x))
            found.append(x)
        return found


def unit_distance(first: Sequence[Tensor], second: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """[b] sum over layers of the weighted squared distance of unit features, averaged over pixels (eq. 1).

    Features are [b, c, h, w] a layer, weights [1, c, 1, 1] or a number.
    """
    total = torch.zeros(len(first[0]), device=first[0].device)
    for one, two, w in zip(first, second, weights, strict=True):
        # 1e-8 under the root, as torchmetrics has it: pixels without any activation stay at zero.
        one, two = (x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt() for x in (one, two))
        total = total + ((one - two).square() * w).sum(1).mean((1, 2))
    return total


class Lpips:
    """LPIPS with AlexNet. `backbone` and `heads` are local safetensors files; ModelError says what is missing."""

    name = "LPIPS"

    def __init__(self, backbone: Path, heads: Path, device: str | torch.device = "cpu"):
        self._network, self._device = AlexNet(), torch.device(device)
        fill(self._network, read_weights(backbone, WANTED), backbone, WANTED)
        self._network.to(self._device)
        tensors = read_weights(heads, WANTED_HEADS + _where_installed())
        names = [f"lin{i}.model.1.weight" for i in range(len(CHANNELS))]
        if any(name not in tensors for name in names):
            raise ModelError(f"{heads.resolve()} holds no LPIPS weights: it should be {WANTED_HEADS}")
        self._heads = [tensors[name].to(self._device) for name in names]

    @torch.no_grad()
    def distances(self, first: Tensor, second: Tensor, batch: int = 16) -> Tensor:
        """[b] for pairs of pictures [b, 3, h, w] in [0, 1], 32 pixels a side or more; on the CPU. 0 is the same picture."""
        _check_pairs(first, second)
        shift, scale = (torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
        found = []
        for pair in zip(first.split(batch), second.split(batch), strict=True):
            one, two = (self._network((x.to(self._device) * 2 - 1 - shift) / scale) for x in pair)
            found.append(unit_distance(one, two, self._heads).cpu())
        return torch.cat(found)


class JudgeDistance:
    """The stand-in for the pocket model: eq. 1 on the judge's four stages, every channel weighing 1."""

    name = "judge-LPIPS"

    def __init__(self, judge: Judge):
        self._judge = judge

    @torch.no_grad()
    def distances(self, first: Tensor, second: Tensor, batch: int = 128) -> Tensor:
        """[b] for pairs of pictures [b, 3, 64, 64] in [0, 1], on the CPU. 0 is the same picture."""
        _check_pairs(first, second)
        pairs = zip(first.split(batch), second.split(batch), strict=True)
        return torch.cat([unit_distance(self._stages(a), self._stages(b), (1.0,) * 4).cpu() for a, b in pairs])

    def _stages(self, images: Tensor) -> list[Tensor]:
        weight = self._judge.object_head.weight
        x, found = images.to(weight) * 2 - 1, []
        for i, layer in enumerate(self._judge.trunk):
            x = layer(x)
            if i >= 2:  # the first two are a convolution and its norm
                found.append(x)
        return found


def _check_pairs(first: Tensor, second: Tensor) -> None:
    check_pictures(first)
    if first.shape != second.shape:
        raise ModelError(f"pairs of pictures must have one shape, these are {list(first.shape)}, {list(second.shape)}")


def _where_installed() -> str:
    """Where an installed package keeps its copy, for the message."""
    for package, inside in HEADS_IN_PACKAGES:
        spec = importlib.util.find_spec(package)  # does not import it
        path = Path(spec.origin).parent / inside if spec is not None and spec.origin else None
        if path is not None and path.is_file():
            return f": {path}"
    return ": `pip install torchmetrics` brings them"
