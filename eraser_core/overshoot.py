"""The target past the anchor, for all methods that draw an anchor in the concept's place. b is the overshoot.

    eps_n = eps(c_n) - b (eps(c_e) - eps(c_n))          W (g + b (g - c)) in a closed form, which is (1 + b) of its change

What training leaves of eps'(c_e) - eps(c_n) points back at the concept. A sampler with the anchor as its negative prompt
multiplies it by the guidance scale, and the concept returns. From a target past the anchor the rest points away from
the concept. The papers have b = 0. Native predictions stay native: the weights add up to 1.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor


def overshoot_field(default: float = 0.0) -> Any:
    """The setting b."""
    return Field(
        default,
        ge=0,
        le=4,
        description="how far past the anchor the target goes, in differences of concept and anchor; with 0, the papers' "
        "target, the anchor in a negative prompt brings the concept back (kpop's own choice for one concept: 0.5)",
    )


def past(neutral: Tensor, erased: Tensor, overshoot: float) -> Tensor:
    """eps_n [b, c, h, w] from the predictions at c_n and c_e; or columns of tokens alike."""
    return neutral - overshoot * (erased - neutral)
