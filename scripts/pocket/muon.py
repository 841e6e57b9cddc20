"""Muon in fp32: torch's own works in bf16, which a processor without it computes a hundred times more slowly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic iteration, as published
ITERATIONS = 4


class Muon(torch.optim.Optimizer):
    """Steps along the nearest orthogonal matrix to each momentum (Jordan et al., 2024, kellerjordan.github.io/posts/muon).

    For matrices alone. `lr` is the step's spectral norm for a square matrix.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                alike[parameter.shape].append(parameter)
            for shape, parameters in alike.items():
                ahead = [p.grad.lerp(self.state[p]["momentum"], group["momentum"]) for p in parameters]  # Nesterov's
                stretch = max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, direction in zip(parameters, orthogonal(torch.stack(ahead)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(direction, alpha=group["lr"] * stretch)


def orthogonal(matrices: Tensor) -> Tensor:
    """[n, a, b] -> about U V^T of each, by Newton and Schulz's iteration."""
    x = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x
