"""Robust: an erasing that withstands learnt contexts, by adversarial training (after AdvUnlearn, arXiv 2405.15234).

Its equations and its steps are those of eraser_core/resisting.py, which it adds nothing to.
"""

from __future__ import annotations

from ..resisting import Resisting, ResistingSettings


class RobustSettings(ResistingSettings):
    """See `ResistingSettings`."""


class Robust(Resisting):
    """See `Resisting`."""
