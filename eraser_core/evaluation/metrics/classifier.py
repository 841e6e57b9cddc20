"""The slides' judge of objects: ResNet-50 on ImageNet (He et al., arXiv 1512.03385; strides as torchvision has them).

The network is written out here with torchvision's parameter names, so torchvision's own weights, converted to
safetensors, fill it and torchvision itself, whose builds depend on torch's, need not be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import RequestError
from ..optional import optional
from .objects import ranks
from .weights import check_pictures, fill, read_weights

WANTED = "torchvision's ResNet-50 weights (resnet50-0676ba61 is IMAGENET1K_V1, resnet50-11ad3fa6 is V2)"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The ten classes of Imagenette by their number in ImageNet.
IMAGENETTE = {
    "tench": 0,
    "English springer": 217,
    "cassette player": 482,
    "chain saw": 491,
    "church": 497,
    "French horn": 566,
    "garbage truck": 569,
    "gas pump": 571,
    "golf ball": 574,
    "parachute": 701,
}


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the stride is in the 3x3 one."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        after = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + self.downsample(x))


class ResNet50(nn.Module):
    """Normalised pictures [b, 3, h, w] to logits [b, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.layer1, self.layer2 = _stage(64, 64, 3, 1), _stage(256, 128, 4, 2)
        self.layer3, self.layer4 = _stage(512, 256, 6, 2), _stage(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def _stage(before: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(before, width, stride), *rest)


class Classifier:
    """ResNet-50 with its preprocessing. `resize` is the shorter side before the 224 px crop: 256 for V1, 232 for V2.

    Without a weights file, `download=True` lets torchvision (which must be installed) fetch and keep its V2 file.
    ModelError says what is missing.
    """

    def __init__(
        self, weights: Path | None, *, resize: int = 256, download: bool = False, device: str | torch.device = "cpu"
    ):
        network = ResNet50()
        if weights is None and download:
            models = optional("torchvision.models", "downloading ResNet-50", "torchvision")
            fetched = models.ResNet50_Weights.IMAGENET1K_V2.get_state_dict(progress=False, check_hash=True)
            fill(network, fetched, Path("torchvision's download"), WANTED)
        else:
            path = Path("resnet50-0676ba61.safetensors") if weights is None else weights
            fill(network, read_weights(path, WANTED), path, WANTED)
        self._network, self._resize, self._device = network.to(device), resize, torch.device(device)

    @torch.no_grad()
    def logits(self, images: Tensor, batch: int = 32) -> Tensor:
        """[b, 1000] for pictures [b, 3, h, w] in [0, 1], on the CPU."""
        check_pictures(images)
        return torch.cat([self._network(self.prepare(part.to(self._device))).cpu() for part in images.split(batch)])

    def prepare(self, images: Tensor) -> Tensor:
        """Resized (bilinear, antialiased), cropped and normalised as torchvision's weights expect: [b, 3, 224, 224]."""
        h, w = images.shape[-2:]
        side = self._resize
        size = (side, int(side * w / h)) if h <= w else (int(side * h / w), side)
        x = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
        top, left = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
        x = x[..., top : top + 224, left : left + 224]
        mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        return (x - mean) / std

    def ranks(self, images: Tensor, answers: Sequence[int]) -> Tensor:
        """[b] the rank of each right class (its number in ImageNet), for `objects.esr` and `objects.psr`."""
        if len(answers) != len(images) or any(not 0 <= a < 1000 for a in answers):
            raise RequestError(f"{len(images)} pictures need as many classes from 0 to 999, got {list(answers)[:5]}...")
        return ranks(self.logits(images), torch.tensor(list(answers), dtype=torch.long))
