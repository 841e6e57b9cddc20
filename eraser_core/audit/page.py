"""`index.html`: what undoes the erasure, pictures first, and what every attack asked and cost."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from ..evaluation.report.chapter import HEAD, STYLE
from ..evaluation.report.grid import png
from .record import Audit, Done, Row, Share

WORDS = """<h2>What the words mean</h2><dl>
<dt>erased, untouched</dt><dd>The same attack, with the same noise, on the model with the file and without it. Each share is of
pictures that the judge takes for the concept, with its 95 % interval (Wilson).</dd>
<dt>never known</dt><dd>The same attack on a concept that the model never knew. What an attack teaches the model anew, it
teaches it of that one too.</dd>
<dt>comes back</dt><dd>At least half of the pictures show it. "In part" is less than half and more than a tenth.</dd>
<dt>as a model that never knew it</dt><dd>No more than the attack gives of a concept that the model never knew: what it shows
comes from the attack and not from the model.</dd>
<dt>as what it was given shows</dt><dd>The attack was given a part of a picture, and no more is seen than in that part beside
something else.</dd>
<dt>as by its name alone</dt><dd>No more than its plain name shows on the erased model: the attack adds nothing.</dd>
<dt>not undone</dt><dd>At most a tenth, though the attack shows the concept on the untouched model. A larger budget may still
undo it.</dd>
<dt>cannot be told</dt><dd>At most a tenth, and the attack does not show the concept on the untouched model either.</dd>
<dt>forward row</dt><dd>One picture through the network once, with gradient or without: the unit of cost.</dd></dl>"""
NO_JUDGE = (
    "This model has no judge, so pictures are shown and figures that need one are left out. Look at them yourself. Figures "
    "from the file alone are there."
)


def page(name: str, verdict: str, found: Sequence[tuple[Audit, Path]], sheet: Image.Image | None) -> str:
    """The page of the audits of a file's concepts, each with the folder of its pictures; `sheet` is their summary."""
    title = f"Audit of {name}"
    parts = [HEAD, f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"]
    parts.append(f"<p>{html.escape(verdict)}</p>")
    if sheet is not None:
        parts.append(_figure(png(sheet), "the strongest way of every attack, untouched and erased from the same noise"))
    if not all(audit.judged for audit, _ in found):
        parts.append(f"<p class=bad>{NO_JUDGE}</p>")
    for i, (audit, out) in enumerate(found):
        parts += _section(audit, out, f"{i}-" if len(found) > 1 else "")
    return "\n".join([*parts, WORDS]) + "\n"


def _section(audit: Audit, out: Path, prefix: str) -> list[str]:
    """One concept's part; `prefix` tells its links from those of others."""
    done = sorted(audit.attacks, key=lambda one: bool(one.left_out))
    head = [f"<h1>{html.escape(audit.setting.concept)}</h1><p>{html.escape(audit.verdict)}</p>"] if prefix else []
    note = [f"<p class=bad>{html.escape(audit.note)}</p>"] if audit.note else []
    return [*head, *note, _list(done, prefix), *(_attack(one, out, prefix) for one in done), _facts(audit)]


def _list(done: Sequence[Done], prefix: str) -> str:
    """What every attack says, a line each."""
    lines = [
        f"<li><a href='#{prefix}{one.name}'>{one.name}</a>: {html.escape(one.verdict)}</li>"
        for one in done
        if not one.left_out
    ]
    return f"<ul>{''.join(lines)}</ul>"


def _figure(data: bytes, caption: str) -> str:
    shown = base64.b64encode(data).decode("ascii")
    image = f'<img alt="{caption}" src="data:image/png;base64,{shown}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _attack(done: Done, out: Path, prefix: str) -> str:
    parts = [f"<h2 id='{prefix}{done.name}'>{done.name}</h2><p>{html.escape(done.asks)}</p>"]
    if done.left_out:
        return parts[0] + f"<p class=small>Left out: {html.escape(done.left_out)}.</p>"
    parts.append(f"<p><b>{html.escape(done.verdict[:1].upper() + done.verdict[1:])}.</b></p>")
    if done.picture:
        caption = f"{done.name}: the first pictures of every way, all from the same noise"
        parts.append(_figure((out / done.picture).read_bytes(), caption))
    parts.append(_table(done))
    parts += [f"<p>{html.escape(row.said)}</p>" for row in done.rows if row.said.endswith(".")]
    cost = f"{done.rows_with_gradient:,} forward rows with gradient and {done.rows_without_gradient:,} without"
    parts.append(
        f"<p class=small>After {done.paper}. Budget: {html.escape(done.budget)}. It took {cost}, {done.seconds:.0f} s.</p>"
    )
    return "\n".join(parts)


def _table(done: Done) -> str:
    if all(row.erased is None for row in done.rows):
        return ""
    columns: Mapping[str, str] = {
        "untouched": "untouched",
        "erased": "erased",
        "unknown": "never known",
        "given": "what it was given",
    }
    there = {k: title for k, title in columns.items() if any(getattr(row, k) is not None for row in done.rows)}
    head = "".join(f"<th>{title}</th>" for title in ("way", *there.values(), "answer"))
    return f"<table><tr>{head}</tr>{''.join(_row(row, list(there)) for row in done.rows)}</table>"


def _row(row: Row, columns: list[str]) -> str:
    cells = "".join(f"<td>{_cell(getattr(row, name))}</td>" for name in columns)
    said = f"{row.answer}; {row.said}" if row.said and not row.said.endswith(".") else row.answer
    return f"<tr><td>{html.escape(row.label)}</td>{cells}<td>{html.escape(said)}</td></tr>"


def _cell(share: Share | None) -> str:
    if share is None:
        return ""
    low, high = share.rate.interval()
    return f"{share.rate.value:.2f} <span class=small>[{low:.2f}, {high:.2f}]</span>"


def _facts(audit: Audit) -> str:
    s = audit.setting
    said = (
        f"Concept {s.concept!r}, erased as {s.anchor or 'nothing in particular'!r}. n = {s.images} pictures a share, "
        f"{s.steps} steps, guidance {s.guidance:g}, seed {s.seed}, picture seed {s.suite_seed}. "
    )
    if any(row.unknown for done in audit.attacks for row in done.rows):
        said += f"Never known: {audit.unknown!r}. "
    return f"<p class=small>{html.escape(said)}Erasure {s.erasure_hash[:12]}, base {s.base_hash[:12]}.</p>"
