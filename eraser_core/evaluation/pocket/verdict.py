"""A row of figures in words: did it work, and what did it cost?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of a concept that less than half of the untouched pictures show, no figure says whether it was erased (`knows` alike).
KNOWN = 0.5
# Up to a tenth of the pictures may still be taken for the concept: the judge itself errs in about one of twenty, and of
# the dozen pictures of a short look one is a twelfth.
ERASED = 0.1
# Beyond a third of the pictures nobody would call it erased; between the two it is so in part.
PARTLY = 0.35
# A tenth of the others: one picture of a dozen is within chance, two are not.
DAMAGED = 0.1
# The hidden prompt should bring back at least half of what the untouched model shows.
RECOVERED = 0.5


def figures(row: Mapping[str, Any]) -> str:
    """The three that matter: still seen, others right, brought back."""
    parts = [
        f"still seen in {_percent(1 - row['esr1'])} of {row['n_images']} pictures "
        f"(untouched: {_percent(1 - row['esr1_before'])})"
    ]
    if row["psr1"] is not None:
        parts.append(f"others right in {_percent(row['psr1'])} (untouched: {_percent(row['psr1_before'])})")
    if row.get("recovery1") is not None:
        parts.append(f"brought back by the hidden prompt in {_percent(row['recovery1'])}")
    return ", ".join(parts)


def verdict(row: Mapping[str, Any], method: str = "") -> str:
    """One sentence on a row of `scores.score`; what to try, where it did not work, depends on the `method` that was used."""
    known, seen = 1 - row["esr1_before"], 1 - row["esr1"]
    if known < KNOWN:
        return f"cannot be told: the untouched model shows it in only {_percent(known)} of its pictures"
    if seen > PARTLY:
        return f"not erased: still seen in {_percent(seen)} of its pictures; {_stronger(method)}"
    said = "erased" if seen <= ERASED else f"erased in part: still seen in {_percent(seen)} of its pictures"
    harm = _harm(row)
    if harm is None:
        said += "; of the others none was looked at"
    elif harm <= DAMAGED:
        said += ", and the others are as before"
    else:
        said += f"; but {_percent(harm)} of the others are damaged: {_milder(method)}"
    back = row.get("recovery1")
    if back is not None and back < RECOVERED * known:
        said += f"; the hidden prompt brings it back in only {_percent(back)}: try more --iterations"
    return said


def _harm(row: Mapping[str, Any]) -> float | None:
    """The share of the others that were right before and are not any more; None where there are none."""
    before, after = row["psr1_before"], row["psr1"]
    if after is None or not before:
        return None
    return float(max(0.0, 1 - after / before))


def _stronger(method: str) -> str:
    if method in ("uce", "time", "dp"):
        return "try --method kpop, or another --anchor"
    return "try more --iterations, or another --anchor"


def _milder(method: str) -> str:
    return "try a longer retain set" if method == "dp" else "try --method dp, or a longer retain set"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
