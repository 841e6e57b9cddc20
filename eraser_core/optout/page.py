"""`index.html`: each name with its pictures and figures, and who says what about it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..evaluation.report.chapter import HEAD, STYLE
from .looks import Look

NOT_VERIFIED = (
    "Not verified: this program took the names, reasons and sources from the register as they are. It checked neither who "
    "asked nor whether they may."
)
HIDDEN = "The file hides these names. Whoever leaves the file out has the original model."


@dataclass(frozen=True)
class Facts:
    """What stands above the table."""

    model: str
    register: str
    method: str
    erasure: str
    day: str
    others: tuple[float, float, int] | None
    record: Mapping[str, object]


def page(facts: Facts, looks: Sequence[Look], left_out: Mapping[str, str]) -> str:
    """The page; its pictures lie beside it."""
    parts = [
        f"{HEAD}<title>Opt-outs of {html.escape(facts.model)}</title><style>{STYLE}</style>",
        f"<h1>Opt-outs of {html.escape(facts.model)}</h1><p>{html.escape(_sentence(facts, looks))}</p>",
        f"<p>{HIDDEN}</p><p class=bad>{NOT_VERIFIED}</p>",
        _changes(facts.record),
        _names(looks),
    ]
    if left_out:
        parts.append(f"<h2>Left out</h2>{_table(('name', 'why'), [tuple(one) for one in left_out.items()])}")
    parts.append(f"<p class=small>Register {facts.register}. Erasure {facts.erasure}. {facts.day}.</p>")
    return "\n".join(part for part in parts if part) + "\n"


def _sentence(facts: Facts, looks: Sequence[Look]) -> str:
    said = f"{len(looks)} names are erased by {facts.method}."
    judged = [look for look in looks if look.seen_after is not None]
    if judged:
        before, after = (sum(getattr(o, f"seen_{w}") * o.images for o in judged) for w in ("before", "after"))
        n = sum(look.images for look in judged)
        said += (
            f" Of {n} pictures of {len(judged)} of them {round(before)} showed the name before, {round(after)} do now."
        )
    if facts.others is not None:
        was, right, n = facts.others
        said += (
            f" Of {n} pictures of what nobody opted out {round(was * n)} were right before, {round(right * n)} are now."
        )
    return said


def _changes(record: Mapping[str, object]) -> str:
    lines = []
    for title, key in (("New since the last run", "added"), ("Gone since the last run", "removed")):
        names = record.get(key)
        if isinstance(names, list) and names:
            lines.append(
                f"<p>{title}: {html.escape(', '.join(map(str, names[:50])))}{' ...' if len(names) > 50 else ''}</p>"
            )
    return "".join(lines)


def _names(looks: Sequence[Look]) -> str:
    rows = []
    for look in looks:
        shares = ["" if s is None else f"{s:.2f}" for s in (look.seen_before, look.seen_after)]
        note = "the model hardly draws it" if look.hardly_known else ""
        said = (look.basis, look.source, look.date, look.scope)
        rows.append((look.label, look.kind, look.anchor, *shares, str(look.images or ""), note, *said))
    columns = ("name", "kind", "drawn instead", "seen before", "seen after", "pictures", "")
    pictures = [
        f"<figure><img loading=lazy alt='{html.escape(o.label)}' src='{html.escape(o.picture)}'>"
        f"<figcaption>{html.escape(o.label)}, looked at on {o.on}</figcaption></figure>"
        for o in looks
        if o.picture
    ]
    table = _table((*columns, "basis", "source", "date", "scope"), rows)
    return "<h2>Names</h2>" + table + "".join(pictures)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<div style='overflow-x:auto'><table><tr>{head}</tr>{body}</table></div>"
