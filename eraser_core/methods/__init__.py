"""The methods, one file a paper, registered here by one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from ..erasure import Entry
from ..errors import RequestError
from ..pocket.concepts import FAMILIES
from ..request import Request
from ..text_readers import TextReader
from ..training import Learner
from . import double_projection, kpop, time, uce
from .ca import CA, CASettings
from .esd import ESD, ESDSettings
from .kpop import KPOP, KPOPSettings, Naive, NaiveSettings
from .locked import Locked, LockedSettings
from .robust import Robust, RobustSettings

Solve = Callable[[TextReader, Request, Any], dict[str, Entry]]
OTHERS = "others"  # SD1.x, SD2.x, SDXL and its smaller kin


@dataclass(frozen=True)
class Method:
    """One system: its settings and what differs from their defaults on a family of models.

    A gradient method has a `learner`, a closed form a `solve`. `usual` gives the method's own choices for a number of concepts
    and the settings that were given.
    """

    name: str
    settings: type[BaseModel]
    paper: str
    learner: type[Learner] | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    usual: Callable[[int, Mapping[str, Any]], Mapping[str, Any]] = lambda concepts, values: {}
    solve: Solve | None = None

    def configure(self, family: str, values: Mapping[str, Any], retain: bool = True, concepts: int = 1) -> Any:
        """The family's preset overridden by the method's own choices, and by `values`; a family without one has that of the
        real models.

        Without a retain set the preset has no retain loss, and with rank 0 not the rate of its low rank. What tunes the
        texts has a rank of its own.
        """
        preset = {k: v for k, v in self._preset(family).items() if retain or k != "retain_weight"}
        if "rank" in preset and str(values.get("rank", preset["rank"])) == "0":
            preset.pop("eta")
        if values.get("tune") == "text":  # a map of the text space has no dense form
            preset["rank"] = _TEXT_RANK
        return self.settings(**{**preset, **self.usual(concepts, values), **values})

    def _preset(self, family: str) -> Mapping[str, Any]:
        return self.presets.get(family, self.presets.get(OTHERS, {}))


# Adapted to the pocket model, whose weights move a hundred times more than Stable Diffusion's; see docs/methods/kpop.md.
_POCKET = {"iterations": 200, "batch": 4, "eta": 2e-4, "retain_weight": 1.0, "sampler_steps": 16, "pool_size": 256}
_POCKET_NAIVE = _POCKET | {"iterations": 100}
_POCKET_CA = _POCKET | {"eta": 6e-5}  # docs/results/rates.md
_POCKET_KPOP = _POCKET_NAIVE | {"k": 8, "lambda": 0.3, "eta_p": 2e-2}
# Of the flow-matching model the first model's settings lose a truck for good: docs/results/pocket_flow.md.
_FLOW_KPOP = _POCKET_KPOP | {"iterations": 200, "eta_p": 5e-2}
_TEXT_RANK = 8
# A file under 2 MB for SD1.x and memory for small cards; the rate is the usual one of low-rank training, not tuned here.
# Whoever names concepts to retain wants them retained.
_REAL = {"rank": 16, "eta": 1e-4, "retain_weight": 1.0}
_POCKET_ROBUST = {"retain_weight": 4.0, "sampler_steps": 16}
# Never tried: a card of 24 GB has no room for the dense change of a whole network.
_REAL_ROBUST = _REAL | {"retain_weight": 4.0, "iterations": 1000, "batch": 1, "retain_rows": 2, "context_rows": 2}


# Of these most checkpoints are distilled: guidance is in the network, and pictures are drawn without.
_DISTILLED = ("flux1", "flux2", "z-image")
_UNGUIDED = {"guidance": 1.0}
_UNGUIDED_ANCHOR = _UNGUIDED | {"anchor_guidance": 1.0}


def _presets(
    pocket: Mapping[str, Any], real: Mapping[str, Any] = _REAL, unguided: Mapping[str, Any] = _UNGUIDED
) -> dict[str, Mapping[str, Any]]:
    distilled = {**real, **unguided}
    return {**dict.fromkeys(FAMILIES, pocket), **dict.fromkeys(_DISTILLED, distilled), OTHERS: real}


METHODS = {
    m.name: m
    for m in (
        Method(
            "kpop",
            KPOPSettings,
            "Bui et al., arXiv 2403.12326",
            KPOP,
            _presets(_POCKET_KPOP) | {"pocket-flow": _FLOW_KPOP},
            kpop.usual,
        ),
        Method("naive", NaiveSettings, "eq. 5 of the KPOP slides: the control", Naive, presets=_presets(_POCKET_NAIVE)),
        Method("esd", ESDSettings, "Gandikota et al., arXiv 2303.07345", ESD, presets=_presets(_POCKET)),
        Method(
            "ca",
            CASettings,
            "Kumari et al., arXiv 2303.13516",
            CA,
            presets=_presets(_POCKET_CA, unguided=_UNGUIDED_ANCHOR),
        ),
        Method(
            "robust",
            RobustSettings,
            "adversarial training, ours (after arXiv 2405.15234)",
            Robust,
            _presets(_POCKET_ROBUST, _REAL_ROBUST, _UNGUIDED_ANCHOR),
        ),
        Method(
            "locked",
            LockedSettings,
            "robust with a hidden prompt, ours (after arXiv 2405.15234 and 2403.12326)",
            Locked,
            _presets(_POCKET_ROBUST, _REAL_ROBUST),
        ),
        Method("uce", uce.UCESettings, "Gandikota et al., arXiv 2308.14761", solve=uce.edit),
        Method("time", time.TIMESettings, "Orgad et al., arXiv 2303.08084", solve=time.edit),
        Method("dp", double_projection.DoubleProjectionSettings, "arXiv 2604.10032", solve=double_projection.edit),
    )
}


def method(name: str) -> Method:
    """The registered method of this name, or RequestError."""
    if name not in METHODS:
        raise RequestError(f"there is no method {name!r}: choose one of {', '.join(METHODS)}")
    return METHODS[name]
