"""The losses of a run as a figure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import torch


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
