"""*Evaluation*: the figures that lie beside an erasure file, as words and pictures.

They lie in a sidecar, NAME.evaluation.json beside NAME.safetensors, which `python -m eraser_core benchmark` and an
audit write (eraser_core/evaluation/report/sidecar.py; docs/evaluation.md has its format). Keys that are not known are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from comfy_api.latest import io, ui
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from eraser_core.erasure import load_erasure
from eraser_core.errors import FileFormatError, RequestError
from eraser_core.spelling import close, did_you_mean

from .apply import erasure_combo
from .compare import as_tensor
from .host import folders, schema
from .host.preview import say
from .host.schema import checked, node_schema

WIDE = 8  # more columns than this are shown as lines
MOST_LINES = 200  # of one picture; the text has them all
FONT, LINE, GAP = 16, 24, 18  # pixels

Table = list[list[str]]


@dataclass(frozen=True)
class Suite:
    """One suite's figures: tables by title with notes, the pictures' seed, a sample grid."""

    name: str
    tables: Mapping[str, Table]
    notes: tuple[str, ...]
    seed: Any
    grid: Image.Image | None

    def title(self) -> str:
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}:"


class Evaluation(io.ComfyNode):
    """Shows the table and the sample grid that an erasure's sidecar holds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "Evaluation",
            "Evaluation",
            "Shows the figures that were measured of an erasure: how well the concept is gone, what else broke, what brings "
            "it back. They lie in a file beside the erasure, written by Audit Erasure or python -m eraser_core benchmark.",
            [
                erasure_combo(
                    "erasure_name", "An erasure file from the LoRA folders, with NAME.evaluation.json beside it."
                ),
                io.String.Input(
                    "suite", default="", tooltip="Which suite to show, such as pocket. Empty: all that there are."
                ),
            ],
            [
                io.Image.Output(display_name="table", tooltip="The tables as one picture."),
                io.Image.Output(display_name="grid", tooltip="The suites' sample grids as one picture."),
                io.String.Output(display_name="text", tooltip="The tables in words."),
            ],
            aliases=(*schema.ALIASES, "proof", "benchmark", "metrics", "score", "report"),
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, erasure_name: str = "", **_: Any) -> str:
        beside = str(PurePosixPath(erasure_name).with_suffix(folders.FIGURES)) if erasure_name else ""
        return "/".join(folders.file_hash(folders.LORAS, name) for name in (erasure_name, beside))

    @classmethod
    def validate_inputs(cls, erasure_name: str = "") -> bool | str:
        return True  # a missing file is explained by execute, with where to put it

    @classmethod
    @checked
    def execute(cls, erasure_name: str, suite: str) -> io.NodeOutput:
        path = folders.find(folders.LORAS, erasure_name, cls.hidden)
        suites = chosen(read_suites(path.with_suffix(folders.FIGURES), load_erasure(path).hash()), suite.strip())
        tables = {f"{s.title()} {name}".strip(): cells for s in suites for name, cells in s.tables.items()}
        said = ["\n".join([title, *lines(cells)]) for title, cells in tables.items()]
        text = "\n\n".join([*said, *(note for s in suites for note in s.notes)])
        say(text, str(cls.hidden.unique_id or ""))
        grids = [s.grid for s in suites if s.grid is not None] or [
            drawn({"this evaluation has no sample pictures": []})
        ]
        return io.NodeOutput(as_tensor([drawn(tables)]), as_tensor([stacked(grids)]), text, ui=ui.PreviewText(text))


def read_suites(path: Path, erasure_hash: str) -> list[Suite]:
    """The suites of a sidecar. RequestError when there is none, or it is another erasure's; FileFormatError when it is damaged."""
    from eraser_core import records
    from eraser_core.evaluation.report.sidecar import SCHEMA  # not at start: the suites bring all metrics along

    if not path.is_file():
        raise RequestError(
            f"there are no figures of this erasure: {path} is missing. Ask for it where the erasure came from, or measure: "
            "python -m eraser_core benchmark --help"
        )
    todo = "fetch it again, or measure anew"
    said = records.read_json(path, todo)
    version = said.get("schema") if isinstance(said, dict) else None
    if version is not None and version != SCHEMA:
        raise FileFormatError(f"{path} is of version {version}, this pack reads {SCHEMA}: update the pack")
    made_of = records.read(records.SidecarRecord, said, path, todo).erasure_hash
    suites = [_suite(path, name, facts) for name, facts in said["suites"].items()]
    if made_of != erasure_hash:
        raise RequestError(
            f"{path} holds the figures of another erasure ({made_of[:12]}, this one is {erasure_hash[:12]}): fetch the one "
            "that belongs to it, or measure anew"
        )
    if not suites:
        raise RequestError(f"{path} holds no suite: measure one, see python -m eraser_core benchmark --help")
    return suites


def _suite(path: Path, name: str, facts: Mapping[str, Any]) -> Suite:
    tables = {said["title"]: table(said) for said in facts["tables"]}
    told = [facts.get("verdict", ""), *(said.get("note", "") for said in facts["tables"])]
    notes = tuple(dict.fromkeys(note for note in told if note))
    return Suite(name, tables, notes, facts.get("suite seed"), _grid(path, facts.get("grid")))


def table(said: Mapping[str, Any]) -> Table:
    """Cells, a header first. Wide tables are turned round: a line a figure, a column a row. Quoted rows say that they are.

    A column's head is its name, or its name and an arrow such as "(up)".
    """
    known = {column for row in said["rows"] for column in row["cells"]}
    columns = [head if head in known else head.rpartition(" ")[0] for head in said["columns"]]
    cells = [["", *said["columns"]]]
    for row in said["rows"]:
        name = f"{row['name']} (quoted)" if row.get("quoted") else str(row["name"])
        cells.append([name, *(str(row["cells"][c]["text"]) if c in row["cells"] else "-" for c in columns)])
    return [list(line) for line in zip(*cells, strict=True)] if len(cells[0]) > WIDE else cells


def _grid(path: Path, name: Any) -> Image.Image | None:
    """The PNG beside the sidecar; FileFormatError when the sidecar names anything else, None when it is not there."""
    if name is None:
        return None
    if {name} != {PurePosixPath(name).name, PureWindowsPath(name).name} or not name.lower().endswith(".png"):
        raise FileFormatError(f"{path} names {name!r} as its picture: only the name of a PNG beside it is opened")
    picture = path.with_name(name)
    if not picture.is_file():
        return None
    try:
        with Image.open(picture, formats=["PNG"]) as opened:
            return opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{picture} is no whole PNG ({error}): fetch it again, or delete it") from error


def chosen(suites: Sequence[Suite], name: str) -> list[Suite]:
    """The suite of this name, or all of them for an empty one."""
    found = [s for s in suites if not name or s.name.lower() == name.lower()]
    if not found:
        names = [s.name for s in suites]
        raise RequestError(
            f"there is no suite {name!r} in this evaluation: it has {', '.join(names)}{did_you_mean(close(name, names))}"
        )
    return found


def lines(cells: Table) -> list[str]:
    """The table as text, columns aligned."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def drawn(tables: Mapping[str, Table]) -> Image.Image:
    """The tables under their titles, black on white."""
    font = ImageFont.load_default(size=FONT)
    blocks = []
    for title, cells in tables.items():
        shown = cells[:MOST_LINES]
        widths = [int(max(map(font.getlength, column))) + GAP for column in zip(*shown, strict=True)]
        width = max(int(font.getlength(title)), sum(widths)) + 2 * GAP
        block = Image.new("RGB", (width, (len(shown) + 1) * LINE + 2 * GAP), "white")
        pen = ImageDraw.Draw(block)
        pen.text((GAP, GAP), title, "black", font, stroke_width=0.4)
        for i, line in enumerate(shown, 1):
            left = GAP
            pen.line((GAP, GAP + i * LINE - 3, width - GAP, GAP + i * LINE - 3), "lightgray")
            for cell, across in zip(line, widths, strict=True):
                pen.text((left, GAP + i * LINE), cell, "black", font)
                left += across
        blocks.append(block)
    return stacked(blocks)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """One under the other on white."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet
