"""Which nodes there are, in the order of the menu."""

from __future__ import annotations

from .apply import ApplySanitizedUNet, ErasureInfo, LoadErasure
from .compare import Compare
from .methods import KPOPSettings
from .prompts import HiddenPromptInject, LoadHiddenPrompt, SaveHiddenPrompt
from .train import TrainConceptEraser


def all_nodes() -> list[type]:
    """Every node class of the pack."""
    return [
        TrainConceptEraser,
        KPOPSettings,
        ApplySanitizedUNet,
        HiddenPromptInject,
        LoadErasure,
        LoadHiddenPrompt,
        SaveHiddenPrompt,
        ErasureInfo,
        Compare,
    ]
