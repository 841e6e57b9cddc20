"""One self-contained page about erasings: what happened in a sentence, pictures, figures, and what the words mean."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from . import grid
from .plots import losses, losses_table, shown

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}
img,svg{max-width:100%;height:auto;box-sizing:border-box}img{border:1px solid #ddd;min-width:min(100%,640px)}figure{margin:1em 0;overflow-x:auto}
table{border-collapse:collapse;margin:1em 0}figcaption,.small{color:#555;font-size:.9em}
td,th{border-bottom:1px solid #ddd;padding:.3em .8em;text-align:right}td:first-child,th:first-child{text-align:left}
pre{background:#f5f5f5;padding:1em;overflow:auto}.bad{color:#a00}dt{font-weight:600}dd{margin:0 0 .6em}
"""
HEAD = "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"

WORDS = """<h2>What the words mean</h2><dl>
<dt>anchor</dt><dd>The concept that the model draws in the erased one's place.</dd>
<dt>retain set</dt><dd>Concepts that the training was told to keep. The others were named to nobody, so they show best
what the erasing costs.</dd>
<dt>hidden prompt</dt><dd>Some learnt numbers that bring the concept back. They are in a file of their own.</dd>
<dt>random prompt</dt><dd>As many numbers of the same size, drawn at random. They should bring nothing back.</dd>
<dt>others right with the hidden prompt</dt><dd>Other prompts, drawn with the hidden prompt beside them. It pulls towards
its own concept: use it for that concept alone.</dd>
<dt>interval</dt><dd>The true share lies in it with 95 % certainty (Wilson). It is wide because few pictures were
drawn.</dd></dl>"""

# label, the column before erasing, the column after it
_FIGURES = (
    ("concept no longer drawn (ESR-1)", "esr1_before", "esr1"),
    ("the same, asked by a synonym", None, "esr1_synonym"),
    ("the same, asked by a description", None, "esr1_description"),
    ("others right, not in the retain set (PSR-1)", "psr1_before", "psr1"),
    ("others right, in the retain set", "psr1_retained_before", "psr1_retained"),
    ("look-alikes right", "psr1_lookalike_before", "psr1_lookalike"),
    ("concept drawn with its hidden prompt", None, "recovery1"),
    ("the same, with it in the negative half too (the authors' way)", None, "recovery1_both"),
    ("concept drawn with a random prompt", None, "forged1"),
    ("concept drawn with another concept's hidden prompt", None, "forged_other1"),
    ("others right with the hidden prompt", None, "kept_with_p1"),
)


@dataclass(frozen=True)
class Chapter:
    """One erasing as the page shows it: its figures and losses, and pictures by caption."""

    row: Mapping[str, Any]
    losses: Sequence[Mapping[str, float]]
    pictures: Mapping[str, Image.Image]


def sentence(row: Mapping[str, Any]) -> str:
    """What happened, for somebody who reads nothing else."""
    n, gone = row["n_images"], round(row["esr1"] * row["n_images"])
    said = f"Of {n} pictures of {row['erase']!r}, {gone} no longer show it. They show {row['anchor'] or 'nothing in particular'!r}."
    if row.get("psr1") is not None:
        said += f" Of {n} pictures of other concepts, {round(row['psr1'] * n)} are right"
        said += f" ({round(row['psr1_before'] * n)} before)."
    if row.get("recovery1") is not None:
        said += f" The hidden prompt brings it back in {round(row['recovery1'] * n)} of {n}"
        said += f", a random prompt in {round(row['forged1'] * n)}."
    return said


def table(row: Mapping[str, Any]) -> str:
    """The figures of a row, shares of n pictures, with their intervals."""

    def cell(name: str | None) -> str:
        value = row.get(name) if name else None
        interval = row.get(f"{name}_interval")
        shown = "" if value is None else f"{value:.2f}"
        return shown + (f" <span class=small>[{interval[0]:.2f}, {interval[1]:.2f}]</span>" if interval else "")

    lines = [
        f"<tr><td>{label}</td><td>{cell(before)}</td><td>{cell(after)}</td></tr>"
        for label, before, after in _FIGURES
        if row.get(after) is not None
    ]
    head = "<tr><th>share of pictures [95 % interval]</th><th>untouched</th><th>erased</th></tr>"
    note = (
        f"n = {row['n_images']} pictures a line, run seed {row['seed']}, picture seed {row['suite_seed']}. The prompts were "
        f"never used in erasing. The anchor is {html.escape(str(row['anchor']))!r}. Erasing took {row['erase_seconds']:.0f} s"
    )
    return f"<table>{head}{''.join(lines)}</table><p class=small>{note}.</p>"


def page(title: str, about: str, chapters: Sequence[Chapter], after: str) -> str:
    """The whole page; `about` says how it was made, `after` is HTML that tells how to go on."""
    parts = [HEAD, f"<title>{html.escape(title)}</title><style>{STYLE}</style>", f"<h1>{html.escape(title)}</h1>"]
    parts.append(f"<p class=small>{html.escape(about)}</p>")
    for chapter in chapters:
        parts.append(f"<h2>{html.escape(chapter.row['kind'])}: {html.escape(chapter.row['erase'])}</h2>")
        parts.append(f"<p>{html.escape(sentence(chapter.row))}</p>")
        for caption, picture in chapter.pictures.items():
            data = base64.b64encode(grid.png(picture)).decode("ascii")
            caption = html.escape(caption)
            parts.append(
                f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
            )
        parts.append(table(chapter.row))
        if chapter.losses:
            course = shown(partial(losses, chapter.losses), losses_table(chapter.losses))
            parts.append(f"<figure>{course}<figcaption>losses over the steps</figcaption></figure>")
    return "\n".join([*parts, WORDS, after]) + "\n"
