"""The methods, one file a paper, registered here by one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestError
from ..training import Learner, TrainingSettings
from .kpop import KPOP, KPOPSettings, Naive, NaiveSettings


@dataclass(frozen=True)
class Method:
    """One system: its settings, its learner, and what differs from the settings' defaults on a family of models."""

    name: str
    settings: type[TrainingSettings]
    learner: type[Learner]
    paper: str
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def configure(self, family: str, values: Mapping[str, Any], retain: bool = True) -> TrainingSettings:
        """The family's preset overridden by `values`; without a retain set the preset has no retain loss."""
        preset = {k: v for k, v in self.presets.get(family, {}).items() if retain or k != "retain_weight"}
        return self.settings(**{**preset, **values})


_POCKET = {
    "iterations": 200,
    "batch": 4,
    "eta": 2e-4,
    "retain_weight": 1.0,
    "sampler_steps": 16,
}

METHODS = {
    m.name: m
    for m in (
        Method(
            "kpop",
            KPOPSettings,
            KPOP,
            "Bui et al., arXiv 2403.12326",
            {"pocket": _POCKET | {"k": 8, "lambda": 0.3, "eta_p": 2e-2}},
        ),
        Method("naive", NaiveSettings, Naive, "eq. 5 of the KPOP slides: the control", {"pocket": _POCKET}),
    )
}


def method(name: str) -> Method:
    """The registered method of this name, or RequestError."""
    if name not in METHODS:
        raise RequestError(f"there is no method {name!r}: choose one of {', '.join(METHODS)}")
    return METHODS[name]
