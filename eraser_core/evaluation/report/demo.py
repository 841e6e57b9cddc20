"""One self-contained page about an erasing: pictures first, then figures, then how to go on."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ...denoiser import Edit
from ...erasure import Erasure
from ...hidden_prompt import HiddenPrompt
from ...models import Model
from ..pocket.tasks import Task
from . import grid

PER_CELL = 4

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%;border:1px solid #ddd}table{border-collapse:collapse;margin:1em 0}
td,th{border-bottom:1px solid #ddd;padding:.3em .8em;text-align:right}td:first-child,th:first-child{text-align:left}
pre{background:#f5f5f5;padding:1em;overflow:auto}figure{margin:1em 0}figcaption{color:#555}.bad{color:#a00}
"""


@dataclass(frozen=True)
class Chapter:
    """One erasing as the page shows it: its figures and losses, and pictures by caption."""

    row: Mapping[str, Any]
    losses: Sequence[Mapping[str, float]]
    pictures: Mapping[str, Image.Image]


def before_after(model: Model, erasure: Erasure, prompts: Sequence[HiddenPrompt]) -> Image.Image:
    """Untouched, sanitized and (where there is one) sanitized with the hidden prompt: the concepts and what replaced them."""
    request = json.loads(erasure.fact("request"))
    edit, rows = erasure.as_edit(), []
    columns = ["untouched", "erased"] + (["erased, with the hidden prompt"] if prompts else [])
    for i, target in enumerate(request["targets"]):
        asked = [target["templates"][j % len(target["templates"])] for j in range(PER_CELL)]
        for word in (target["concept"], target["anchor"]):
            said = [template.replace("{}", word) if word else "" for template in asked]
            images = [model.examiner.images(said, range(PER_CELL), e) for e in (None, edit)]
            if prompts:
                images.append(model.examiner.images(said, range(PER_CELL), edit, prompts[i]))
            rows.append((word or "(empty prompt)", torch.cat(images)))
    return grid.grid(rows, columns, PER_CELL)


def concept_picture(
    model: Model, task: Task, edit: Edit, hidden: HiddenPrompt, other: HiddenPrompt | None
) -> Image.Image:
    """The concept by name and by synonym: untouched, erased, with the hidden prompt, with a forged one, with another's."""
    forged = hidden.forged(torch.Generator().manual_seed(0))
    columns: list[tuple[str, Edit | None, HiddenPrompt | None]] = [
        ("untouched", None, None),
        ("erased", edit, None),
        ("with its hidden prompt", edit, hidden),
        ("with a forged prompt", edit, forged),
    ]
    if other is not None:
        columns.append(("with another concept's", edit, other))
    rows = []
    for name in ("erased", "synonym"):
        questions = task.sheets.get(name, ())[:PER_CELL]
        if questions:
            said, indices = [q.prompt for q in questions], [q.index for q in questions]
            images = [model.examiner.images(said, indices, e, p) for _, e, p in columns]
            rows.append(("by name" if name == "erased" else "by synonym", torch.cat(images)))
    return grid.grid(rows, [title for title, _, _ in columns], PER_CELL, cell=56)


def kept_picture(model: Model, task: Task, edit: Edit, sheet: str, rows: int = 6) -> Image.Image:
    """Concepts of a sheet before and after, one a row, by the prompts they are scored with."""
    by_answer: dict[str, list[Any]] = {}
    for question in task.sheets[sheet]:
        by_answer.setdefault(question.answer, []).append(question)
    found = []
    for answer, questions in list(by_answer.items())[:rows]:
        chosen = [questions[i % len(questions)] for i in range(PER_CELL)]
        said, indices = [q.prompt for q in chosen], [q.index + 100_000 * i for i, q in enumerate(chosen)]
        found.append((answer, torch.cat([model.examiner.images(said, indices, e) for e in (None, edit)])))
    return grid.grid(found, ["untouched", "erased"], PER_CELL, cell=80)


def curves(losses: Sequence[Mapping[str, float]], width: int = 640, height: int = 200) -> str:
    """An SVG of the losses over the steps, on a logarithmic axis, each a running mean of a twentieth of the run."""
    if not losses:
        return ""
    window = max(1, len(losses) // 20)
    colours = {"erase": "#c33", "recover": "#36c", "transfer": "#9bd", "retain": "#393"}
    series = {}
    for name in losses[0]:
        values = torch.tensor([loss[name] for loss in losses], dtype=torch.float64).clamp(min=1e-9)
        series[name] = values.unfold(0, window, 1).mean(1).log10()
    low, high = min(float(s.min()) for s in series.values()), max(float(s.max()) for s in series.values())
    lines = []
    for i, (name, values) in enumerate(series.items()):
        x = torch.linspace(40, width - 100, len(values))
        y = 10 + (high - values) / max(high - low, 1e-9) * (height - 30)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
        colour = colours.get(name, "#888")
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>')
        lines.append(f'<text x="{width - 90}" y="{20 + 18 * i}" fill="{colour}">{html.escape(name)}</text>')
    lines.append(f'<text x="0" y="16" font-size="11">{10**high:.1e}</text>')
    lines.append(f'<text x="0" y="{height - 18}" font-size="11">{10**low:.1e}</text>')
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" font-size="13">{"".join(lines)}</svg>'


_FIGURES = (
    ("concept no longer drawn (ESR-1)", "esr1_before", "esr1"),
    ("the same, asked by a synonym", None, "esr1_synonym"),
    ("the same, asked by a description", None, "esr1_description"),
    ("others right, not in the retain set (PSR-1)", "psr1_before", "psr1"),
    ("others right, in the retain set", "psr1_retained_before", "psr1_retained"),
    ("look-alikes right", "psr1_lookalike_before", "psr1_lookalike"),
    ("concept drawn with its hidden prompt", None, "recovery1"),
    ("the same, with it in the negative half too (the authors' way)", None, "recovery1_both"),
    ("with a random prompt of its size and norm", None, "forged1"),
    ("with another concept's hidden prompt", None, "forged_other1"),
    ("others right with the hidden prompt", None, "kept_with_p1"),
)


def table(row: Mapping[str, Any]) -> str:
    """The figures of a row, shares of n pictures."""

    def cell(name: str | None) -> str:
        value = row.get(name) if name else None
        return "" if value is None else f"{value:.3f}"

    lines = [
        f"<tr><td>{label}</td><td>{cell(before)}</td><td>{cell(after)}</td></tr>"
        for label, before, after in _FIGURES
        if row.get(after) is not None
    ]
    head = "<tr><th>share of pictures</th><th>untouched</th><th>erased</th></tr>"
    note = (
        f"n = {row['n_images']} pictures a row, run seed {row['seed']}, picture seed {row['suite_seed']}; prompts that "
        f"erasing never used; anchor: {html.escape(str(row['anchor']))}; erasing took {row['erase_seconds']:.0f} s"
    )
    return f"<table>{head}{''.join(lines)}</table><p>{note}.</p>"


def page(title: str, chapters: Sequence[Chapter], after: str) -> str:
    """The whole page; `after` is HTML that tells how to go on."""
    parts = [f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{html.escape(title)}</h1>")
    for chapter in chapters:
        parts.append(f"<h2>{html.escape(chapter.row['kind'])}: {html.escape(chapter.row['erase'])}</h2>")
        for caption, picture in chapter.pictures.items():
            data = base64.b64encode(grid.png(picture)).decode("ascii")
            caption = html.escape(caption)
            parts.append(
                f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
            )
        parts.append(table(chapter.row))
        parts.append(f"<figure>{curves(chapter.losses)}<figcaption>losses over the steps</figcaption></figure>")
    return "\n".join([*parts, after]) + "\n"
