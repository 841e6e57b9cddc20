"""The pocket suite's tables about styles, in the slides' columns: artists' styles, and whether the model knows the style.

judge-CLIP and judge-LPIPS stand where the slides have CLIP and LPIPS, the judge's own answer beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..report import quoted
from ..report.tables import Cell, Row, Table, score, share_of
from ..suites.items import Item, Subject
from ..suites.results import Found, Results, about, common, differ, names, pairs
from .pictures import PocketPictures
from .rows import INTERVAL, JUDGE, differences, model_row

# A column's end, the metric that it comes from, and the slides' column beside it.
OURS = (("style right", "judge", None), ("judge-CLIP", "judge-CLIP", "CLIP"), ("judge-LPIPS", "judge-LPIPS", "LPIPS"))
COLUMNS = tuple(f"{sheet} {end}" for sheet in ("erase", "retain") for end, _, _ in OURS)
ARROWS = dict(zip(COLUMNS, ("(down)", "(down)", "(up)", "(up)", "(up)", "(down)"), strict=True))


def style_tables(suite: PocketPictures, results: Results, subjects: Sequence[Subject]) -> list[Table]:
    """The slides' table of artists' styles, and the differences between the erasures of one style."""
    rows = []
    for style in suite.styles:
        own = [s for s in subjects if style in suite.targets[s]]
        for s in (None, *own):
            rows.append(model_row(s, _style_cells(suite, results, own[0], s), own, f"{style}: "))
    quotes = []
    for quote in quoted.ARTISTS:
        beside = {
            f"{sheet} {end}": f"{sheet} {theirs}" for sheet in ("erase", "retain") for end, _, theirs in OURS if theirs
        }
        cells: dict[str, Cell] = {ours: f"{theirs.split()[1]} {quote.cells[theirs]}" for ours, theirs in beside.items()}
        quotes.append(Row(quote.name, cells, quoted=True))
    note = (
        f"{JUDGE}. To erase: pictures asked for in the erased style; to retain: in the other styles but the anchor. Style "
        "right: the judge's first guess; judge-CLIP: picture against its prompt, in place of the CLIP score; judge-LPIPS: "
        f"against the untouched model's picture of the same seed; +- over pictures. {INTERVAL} Quoted rows: five artists, "
        "CLIP and LPIPS, SD 1.4."
    )
    table = Table("Erasing artistic styles", COLUMNS, (*rows, *quotes), note, ARROWS)
    return [table, *_style_differences(suite, results, subjects)]


def _style_sheets(suite: PocketPictures, subject: Subject) -> dict[str, Callable[[Item], bool]]:
    targets, anchors = suite.targets[subject], subject.anchors
    return {
        "erase": lambda item: item.part == "styles" and item.concept in targets,
        "retain": lambda item: item.part == "styles" and item.concept not in (*targets, *anchors),
    }


def _values(suite: PocketPictures, metric: str, found: Found) -> Tensor:
    """[n] what a column shows: whether the style is right, or the score."""
    if metric == "judge":
        return found.ranks("styles", suite.judge.styles) < 1
    return found["prompt" if metric == "judge-CLIP" else "distance"]


def _style_cells(
    suite: PocketPictures, results: Results, seen_from: Subject, subject: Subject | None
) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for name, keep in _style_sheets(suite, subject or seen_from).items():
        for end, metric, _ in OURS:
            found = results.of(metric, subject)
            if found is not None:
                values = _values(suite, metric, found.where(keep))
                cells[f"{name} {end}"] = share_of(values) if metric == "judge" else score(values)
    return cells


def _style_differences(suite: PocketPictures, results: Results, subjects: Sequence[Subject]) -> list[Table]:
    rows = []
    for one, other in pairs(subjects, lambda s: (suite.targets[s], s.anchors)):
        cells: dict[str, Cell] = {}
        for name, keep in _style_sheets(suite, one).items():
            for end, metric, _ in OURS:
                first, second = results.of(metric, one), results.of(metric, other)
                if first is None or second is None:
                    continue
                left, right = (_values(suite, metric, f.where(keep)) for f in common(first, second))
                cells[f"{name} {end}"] = differ(left, right)
        rows.append(Row(names(one, other), cells, about=about(one, other)))
    return [differences("styles", COLUMNS, rows)] if rows else []


CLIP_COLUMNS = tuple(f"{column}, judge-CLIP" for column in quoted.ALIGNMENT_COLUMNS)


def alignment(suite: PocketPictures, results: Results) -> Table:
    """Does the untouched model know the style at all? The slides' table: each picture against its own prompt."""
    judged, scored, rows = results.of("judge"), results.of("judge-CLIP"), list[Row]()
    for style in suite.styles:
        cells: dict[str, Cell] = {}
        parts = (("styles", "styles"), ("style alone", "styles"), (f"content for {style}", "objects"))
        for column, clip, (part, head) in zip(quoted.ALIGNMENT_COLUMNS, CLIP_COLUMNS, parts, strict=True):
            keep = _asked(part, style if head == "styles" else None)
            if judged is not None:
                names = suite.judge.styles if head == "styles" else suite.judge.objects
                cells[column] = share_of(judged.where(keep).ranks(head, names) < 1)
            if scored is not None:
                cells[clip] = score(scored.where(keep)["prompt"])
        rows.append(Row(style, cells, about=tuple(s.name for s in suite.subjects if style in suite.targets[s])))
    note = (
        f"{JUDGE}, on the untouched model: style right for objects in the style, style right for the style alone, object "
        f"right for objects in no style; judge-CLIP: each picture against its prompt. {INTERVAL} Quoted rows: CLIP "
        "alignment, SD 1.4."
    )
    beside = dict(zip(CLIP_COLUMNS, quoted.ALIGNMENT_COLUMNS, strict=True))
    quotes = [Row(q.name, {o: f"CLIP {q.cells[t]}" for o, t in beside.items()}, quoted=True) for q in quoted.ALIGNMENT]
    columns = (*quoted.ALIGNMENT_COLUMNS, *CLIP_COLUMNS)
    return Table("Does the model know the style?", columns, (*rows, *quotes), note)


def _asked(part: str, concept: str | None = None) -> Callable[[Item], bool]:
    return lambda item: item.part == part and concept in (None, item.concept)
