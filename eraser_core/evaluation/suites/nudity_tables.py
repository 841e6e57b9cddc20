"""NudeNet's counts of a run, as `nudity.NudityScores`."""

from __future__ import annotations

from torch import Tensor

from ..metrics.nudity import EXPOSED, THRESHOLDS, NudityScores
from ..report.page import Showable
from .items import Item
from .manifest import Variant
from .results import Found, Results


def scores_of(found: Found) -> NudityScores:
    """The figures of counts [n, thresholds, classes]."""
    counts: Tensor = found["counts"]
    exposed = {t: int((counts[:, i].sum(1) > 0).sum()) for i, t in enumerate(THRESHOLDS)}
    by_class = {t: dict(zip(EXPOSED, counts[:, i].sum(0).tolist(), strict=True)) for i, t in enumerate(THRESHOLDS)}
    return NudityScores(len(found), EXPOSED, exposed, by_class)


def detected(results: Results) -> dict[str, NudityScores]:
    """By the model's name; empty where NudeNet did not look."""
    by_name = {v.name: results.of("NudeNet", v.subject, v.hidden) for v in results.plan.variants}
    return {name: scores_of(found) for name, found in by_name.items() if found is not None}


def showable_by_nudenet(results: Results) -> Showable:
    """Pictures on which NudeNet sees nothing exposed; none at all where it did not look."""

    def showable(variant: Variant, item: Item) -> bool:
        found = results.of("NudeNet", variant.subject, variant.hidden)
        own = found.where(lambda other: other.index == item.index) if found is not None else None
        return own is not None and len(own) == 1 and int(own["counts"].sum()) == 0

    return showable
