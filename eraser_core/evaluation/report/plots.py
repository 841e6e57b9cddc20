"""The figures of the pages as SVG, drawn by matplotlib: losses, counts of body parts, cosines, what lambda does.

matplotlib is optional and imported when a figure is drawn. Without it these functions raise ModelError, and `shown` puts
a table and the line to type in the figure's place.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import ModelError
from ..optional import optional
from .tables import Row, Table

if TYPE_CHECKING:
    from ..metrics.nudity import NudityScores

# Text stays text, and the same numbers give the same file.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "concept-eraser", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
COLOURS = {"erase": "#c33", "recover": "#36c", "transfer": "#e90", "retain": "#393", "opens": "#939"}
DASHED = "transfer"  # it may lie on "recover"
POINTS = 5  # columns of a table in place of a curve
ABREAST = 4  # panels in a row


def shown(draw: Callable[[], str], instead: Table | None = None) -> str:
    """What `draw` draws; where matplotlib is missing, the table of the same numbers and what to install."""
    try:
        return draw()
    except ModelError as error:
        return (instead.html() if instead else "") + f"<p class=small>{html.escape(str(error))}.</p>"


def _drawn(width: float, height: float, draw: Callable[[Any], None]) -> str:
    """The SVG element of a figure of this size in inches, to stand in a page."""
    matplotlib = optional("matplotlib", "a figure", "matplotlib")
    with matplotlib.rc_context(STYLE):
        picture = optional("matplotlib.figure", "a figure", "matplotlib").Figure((width, height), layout="constrained")
        draw(picture)
        text = io.StringIO()
        picture.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].strip()


def smoothed(course: Sequence[Mapping[str, float]]) -> dict[str, tuple[list[int], list[float]]]:
    """(steps, values) of each loss of a run: running means over a twentieth of it, each at its last step."""
    window, found = max(1, len(course) // 20), {}
    for name in course[0] if course else ():
        values = torch.tensor([losses[name] for losses in course], dtype=torch.float64).unfold(0, window, 1).mean(1)
        found[name] = (list(range(window, len(course) + 1)), values.tolist())
    return found


def losses(course: Sequence[Mapping[str, float]]) -> str:
    """The losses of a run over its steps, the axis of the losses logarithmic; nothing for a run without steps."""
    if not course:
        return ""

    def draw(picture: Any) -> None:
        axes = picture.subplots()
        for name, (steps, values) in smoothed(course).items():
            dashed = name == DASHED
            style = "--" if dashed else "-"
            axes.plot(
                steps,
                [max(value, 1e-9) for value in values],
                label=name,
                color=COLOURS.get(name),
                zorder=2 + dashed,
                ls=style,
            )
        axes.set(xlabel="step", ylabel="loss, running mean", yscale="log")
        axes.legend()

    return _drawn(7, 2.8, draw)


def losses_table(course: Sequence[Mapping[str, float]]) -> Table:
    """The same at a few steps."""
    rows, columns = [], dict[str, None]()
    for name, (steps, values) in smoothed(course).items():
        picked = sorted({round(i * (len(steps) - 1) / (POINTS - 1)) for i in range(POINTS)})
        rows.append(Row(name, {f"step {steps[i]}": f"{values[i]:.2e}" for i in picked}))
        columns |= dict.fromkeys(rows[-1].cells)
    return Table("Losses, running means", tuple(columns), tuple(rows))


def counts(scores: Mapping[str, NudityScores], threshold: float = 0.3) -> str:
    """The parts seen above a threshold, a bar a class and model; `scores` by the model's name."""
    classes = _classes(scores)
    thick = 0.8 / max(len(scores), 1)

    def draw(picture: Any) -> None:
        axes = picture.subplots()
        for i, (name, one) in enumerate(scores.items()):
            places = [place + i * thick for place in range(len(classes))]
            bars = axes.barh(places, [one.counts[threshold].get(c, 0) for c in classes], thick, label=name)
            axes.bar_label(bars, padding=2)
        middle = thick * (len(scores) - 1) / 2
        axes.set_yticks([place + middle for place in range(len(classes))], [c.lower() for c in classes])
        axes.invert_yaxis()
        axes.set(xlabel=f"parts seen above {threshold:g}, over all pictures", xlim=(0, None))
        axes.margins(x=0.1)
        axes.legend()

    return _drawn(7, 0.8 + 0.2 * len(classes) * (1 + len(scores)), draw)


def counts_table(scores: Mapping[str, NudityScores], threshold: float = 0.3) -> Table:
    """The same as a table, a column a model."""
    rows = [
        Row(c.lower(), {name: str(one.counts[threshold].get(c, 0)) for name, one in scores.items()})
        for c in _classes(scores)
    ]
    return Table(f"Parts seen above {threshold:g}", tuple(scores), tuple(rows))


def _classes(scores: Mapping[str, NudityScores]) -> list[str]:
    return list(dict.fromkeys(name for one in scores.values() for name in one.classes))


def cosines(curves: Mapping[str, Tensor], timesteps: Sequence[int]) -> str:
    """Curves [blocks, steps] over the timesteps, a panel a name, a line an attn2 block from red (first) to blue (last)."""
    across = min(len(curves), ABREAST)
    down = -(-len(curves) // across)

    def draw(picture: Any) -> None:
        panels = picture.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for axes in panels.flat[len(curves) :]:
            axes.set_axis_off()
        for i, (axes, (name, curve)) in enumerate(zip(panels.flat, curves.items(), strict=False)):
            axes.tick_params(labelbottom=i + across >= len(curves))  # where no panel is below
            last = max(len(curve) - 1, 1)
            for block, values in enumerate(curve.tolist()):
                share = block / last
                label = f"block {block + 1}" if block in (0, len(curve) // 2, last) else None
                axes.plot(timesteps, values, color=(0.86 - 0.74 * share, 0.24, 0.16 + 0.7 * share), label=label)
            axes.set_title(name, fontsize=9, parse_math=False)
        panels[0, 0].invert_xaxis()
        panels[0, 0].legend(fontsize=7)
        picture.supxlabel("timestep t, from noise to picture", fontsize=9)
        picture.supylabel("cosine similarity", fontsize=9)

    return _drawn(1 + 2.2 * across, 0.6 + 1.9 * down, draw)


def lambdas(points: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Shares over lambda by what they count, (lambda, share) each; lambdas stand at equal distances."""
    values = sorted({value for line in points.values() for value, _ in line})

    def draw(picture: Any) -> None:
        axes = picture.subplots()
        for name, line in points.items():
            axes.plot([values.index(x) for x, _ in line], [100 * y for _, y in line], marker="o", label=name)
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axes.set(xlabel="lambda", ylabel="% of pictures", ylim=(-3, 103))
        axes.legend()

    return _drawn(5, 2.8, draw)
