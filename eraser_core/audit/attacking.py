"""One attack of an audit: run, judged, written down, its pictures put into a grid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..evaluation.attacks.case import SHOWN, Attack, Case, Finding
from ..evaluation.metrics.objects import Rate
from ..evaluation.report import grid
from ..files import write_bytes
from . import verdict
from .record import BY_NAME, PICTURES, Done, Row, Share


def attacked(case: Case, attack: Attack, plain: Share | None, out: Path | None) -> Done:
    """What the attack found. `plain` is the share when the erased model is asked for the concept by its name.

    With `out` its pictures are written there.
    """
    rows, began = case.denoiser.rows, time.monotonic()
    grad, no_grad = rows.grad, rows.no_grad
    found = attack.run(case)
    seconds, grad, no_grad = time.monotonic() - began, rows.grad - grad, rows.no_grad - no_grad
    about: dict[str, Any] = {n: getattr(attack, n) for n in ("name", "asks", "paper", "budget")}
    if isinstance(found, str):
        return Done(**about, verdict=f"left out: {found}", left_out=found)
    told = [_row(one, plain, attack.name) for one in found]
    said = verdict.of_attack(told, grad + no_grad)
    return Done(
        **about,
        verdict=said,
        rows=tuple(told),
        picture=_picture(attack.name, found, out) if out else "",
        seconds=round(seconds, 1),
        rows_with_gradient=grad,
        rows_without_gradient=no_grad,
    )


def by_name(case: Case, out: Path) -> str:
    """Write what both models draw when they are asked for the concept by its name; the picture's path below `out`."""
    shown = {"untouched": case.plain(False)[:SHOWN], "erased": case.plain(True)[:SHOWN]}
    return _picture(BY_NAME, [Finding(BY_NAME, "", shown=shown)], out)


def share_of(rate: Rate | None) -> Share | None:
    """A rate as it is written down."""
    return None if rate is None else Share(hits=rate.hits, n=rate.n)


def _row(found: Finding, plain: Share | None, attack: str) -> Row:
    named = attack == "words" and found.label == "its name"
    return Row(
        label=found.label,
        way=found.way,
        answer=verdict.answer(found, plain.rate if plain else None, named),
        erased=share_of(found.erased),
        untouched=share_of(found.untouched),
        unknown=share_of(found.unknown),
        given=share_of(found.given),
        said=found.said,
        meant=found.meant,
        drawn=bool(found.shown),
    )


def _picture(name: str, found: Sequence[Finding], out: Path) -> str:
    """The grid of an attack: a row a way, a column a model. "" where nothing was drawn."""
    drawn = [one for one in found if one.shown]
    if not drawn:
        return ""
    columns = list(dict.fromkeys(column for one in drawn for column in one.shown))
    shape = next(iter(drawn[0].shown.values())).shape
    blank = torch.ones(shape)
    rows = [(one.label, torch.cat([one.shown.get(column, blank) for column in columns])) for one in drawn]
    path = f"{PICTURES}/{name}.png"
    write_bytes(out / path, grid.png(grid.grid(rows, columns, len(blank), min(grid.native(blank), 256))))
    return path
