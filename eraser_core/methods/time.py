"""TIME: Editing Implicit Assumptions in Text-to-Image Diffusion Models (Orgad et al., arXiv 2303.08084).

    W' = (lambda W + sum_i v*_i c_i^T) (lambda I + sum_i c_i c_i^T)^-1,    v*_i = W (c*_i + b (c*_i - c_i))

over the tokens c_i of the source prompt and the aligned tokens c*_i of the destination; b is the overshoot, 0 in the paper. It keeps no list of concepts:
lambda alone holds W near where it was. As in UCE, W' = W (I + E) with one E for all layers.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from ..erasure import Entry
from ..overshoot import overshoot_field
from ..request import Request
from ..text_readers import TextReader
from ..text_space import ClosedFormSettings, TextSpace, entries, gather


class TIMESettings(ClosedFormSettings):
    """The authors' defaults: V and K, lambda 0.1. `layers` "v" is their flag off."""

    lambda_: float = Field(0.1, gt=0, alias="lambda", description="weight of leaving W as it is")
    overshoot: float = overshoot_field()

    model_config = ClosedFormSettings.model_config | {"populate_by_name": True}


def solve(space: TextSpace, lambda_: float, b: float = 0.0) -> tuple[Tensor, Tensor]:
    """(L, R), each [d, n] float64, with E = L R^T: L = (1 + b) (C* - C) and R = (lambda I + C C^T)^-1 C."""
    c = space.c
    m = lambda_ * torch.eye(c.shape[0], dtype=c.dtype, device=c.device) + c @ c.T
    return (1 + b) * (space.g - c), torch.cholesky_solve(c, torch.linalg.cholesky(m))


def edit(denoiser: TextReader, request: Request, settings: TIMESettings) -> dict[str, Entry]:
    """The entries of a TIME edit. A retain set is not used: the method has none."""
    space = gather(denoiser, request, "aligned", "last")
    return entries(denoiser.weights("xattn-kv"), *solve(space, settings.lambda_, settings.overshoot), settings.layers)
