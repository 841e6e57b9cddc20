"""Which nodes there are, in the order of the menu."""

from __future__ import annotations

from .apply import ApplySanitizedUNet, ErasureInfo, LoadErasure
from .attribution import AttributionMap
from .audit import AuditErasure
from .closed_form import EraseClosedForm
from .combine import CombineErasures
from .compare import Compare
from .evaluation import Evaluation
from .methods import CASettings, ESDSettings, KPOPSettings
from .methods_closed import DoubleProjectionsSettings, TIMESettings, UCESettings
from .methods_resisting import LockedSettings, RobustSettings
from .nudenet_score import NudeNetScore
from .prompts import HiddenPromptInject, LoadHiddenPrompt, SaveHiddenPrompt
from .share import ShareErasure
from .train import TrainConceptEraser


def all_nodes() -> list[type]:
    """Every node class of the pack."""
    return [
        TrainConceptEraser,
        KPOPSettings,
        ApplySanitizedUNet,
        HiddenPromptInject,
        NudeNetScore,
        LoadErasure,
        LoadHiddenPrompt,
        SaveHiddenPrompt,
        ErasureInfo,
        Compare,
        ESDSettings,
        CASettings,
        UCESettings,
        TIMESettings,
        DoubleProjectionsSettings,
        EraseClosedForm,
        CombineErasures,
        AttributionMap,
        Evaluation,
        ShareErasure,
        AuditErasure,
        RobustSettings,
        LockedSettings,
    ]
