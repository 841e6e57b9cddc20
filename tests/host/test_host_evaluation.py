"""Evaluation: what lies beside an erasure is shown, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import graphs
import pytest
from graphs import node
from host_client import Client, QueueError
from PIL import Image
from test_host_closed_form import SOLVE
from test_host_train import files

from eraser_core.erasure import load_erasure
from eraser_core.evaluation.report.sidecar import SCHEMA


def facts(name: str = "church", figure: str = "93.3 [84.0, 97.5]", **more: Any) -> dict[str, Any]:
    """A suite's entry in a sidecar, with a table of one row."""
    row = {"name": name, "quoted": False, "cells": {"ESR-1": {"text": figure}}}
    return {"tables": [{"title": "Objects", "columns": ["ESR-1 (up)"], "rows": [row], "note": ""}], **more}


# Another test's graph would come from the host's cache, and no file with it.
OWN = SOLVE | {"filename_prefix": "loras/evaluated"}


@pytest.fixture(scope="module")
def erasure(host: Client) -> Path:
    before = files(host, "loras")
    host.run(graphs.checkpoint() | {"solve": node("ConceptEraser_EraseClosedForm", **OWN)})
    (name,) = files(host, "loras") - before
    return host.base / "output" / "loras" / name


@pytest.fixture
def sidecar(erasure: Path) -> Iterator[Any]:
    """Writes the sidecar, with changes; it is gone after the test."""
    path = erasure.with_suffix(".evaluation.json")

    def write(text: str | None = None, suites: Any = None, **changes: Any) -> Path:
        own = {"pocket": facts(**{"suite seed": 0, "made_by": "an engine to come"})}
        value = {"schema": SCHEMA, "erasure_hash": load_erasure(erasure).hash(), "suites": suites or own}
        path.write_text(json.dumps({**value, "more": [1], **changes}) if text is None else text, encoding="utf-8")
        return path

    yield write
    path.unlink(missing_ok=True)


def showing(erasure: Path, suite: str = "", name: str | None = None) -> graphs.Prompt:
    return {
        "eval": node("ConceptEraser_Evaluation", erasure_name=name or erasure.name, suite=suite),
        "table": node("PreviewImage", images=["eval", 0]),
        "grid": node("PreviewImage", images=["eval", 1]),
    }


def test_it_shows_table_and_grid_and_leaves_unknown_keys_alone(host: Client, erasure: Path, sidecar: Any) -> None:
    Image.new("RGB", (50, 40), "red").save(erasure.with_name("grid.png"))
    shown = facts(grid="grid.png", made_by="an engine to come", **{"suite seed": 0})
    sidecar(suites={"pocket": shown, "artists": facts("nobody", "0.0")})
    outputs = host.run(showing(erasure))
    (text,) = outputs["eval"]["text"]
    assert "pocket, seed 0: Objects" in text and "93.3 [84.0, 97.5]" in text
    assert "nobody" in text and "an engine to come" not in text
    assert host.images(outputs, "grid")[0].shape == (40, 50, 3)
    assert host.images(outputs, "table")[0].shape[0] > 100
    (only,) = host.run(showing(erasure, "Artists"))["eval"]["text"]
    assert "nobody" in only and "church" not in only


def test_tables_as_the_suites_report_them_are_shown_with_what_is_quoted(
    host: Client, erasure: Path, sidecar: Any
) -> None:
    rows = [
        {"name": "church", "quoted": False, "cells": {"ESR-1": {"text": "0.93 [0.84, 0.98]", "value": 0.93}}},
        {"name": "KPOP", "quoted": True, "cells": {"ESR-1": {"text": "0.99"}, "ESR-1 synonyms": {"text": "0.5"}}},
    ]
    reported = {"title": "Objects", "columns": ["ESR-1 (up)", "ESR-1 synonyms (up)"], "rows": rows, "note": "of 60"}
    suites = {"pocket": {"tables": [reported], "suite seed": 3}}
    sidecar(suites=suites)
    (text,) = host.run(showing(erasure))["eval"]["text"]
    assert "pocket, seed 3: Objects" in text and text.endswith("of 60")
    ours, quoted = (next(line for line in text.splitlines() if line.startswith(name)) for name in ("church", "KPOP"))
    assert ours.split() == ["church", "0.93", "[0.84,", "0.98]", "-"]
    assert quoted.split() == ["KPOP", "(quoted)", "0.99", "0.5"]
    sidecar(suites=suites, erasure_hash="other")
    with pytest.raises(QueueError, match="figures of another erasure"):
        host.run(showing(erasure))


def test_a_changed_sidecar_is_read_again(host: Client, erasure: Path, sidecar: Any) -> None:
    sidecar()
    assert "93.3" in host.run(showing(erasure))["eval"]["text"][0]
    sidecar(suites={"pocket": facts(figure="50.0")})
    assert "50.0" in host.run(showing(erasure))["eval"]["text"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": "no json"}, "cannot be read as JSON.*measure anew"),
        ({"text": "[]"}, "should hold named entries"),
        ({"schema": 2}, "update the pack"),
        ({"erasure_hash": "0" * 64}, "figures of another erasure"),
        ({"erasure_hash": None}, "erasure_hash should be text"),
        ({"suites": {"pocket": {}}}, "suites.pocket.tables is missing"),
        ({"suites": {"pocket": {"tables": [3]}}}, "tables.0 should hold named entries"),
        ({"suites": {"pocket": {"tables": [], "grid": "../outside.png"}}}, "only the name of a PNG beside it"),
        ({"suites": {"pocket": {"tables": [], "grid": "..\\outside.png"}}}, "only the name of a PNG beside it"),
        ({"suites": {"pocket": {"tables": [], "grid": "erasure.safetensors"}}}, "only the name of a PNG beside it"),
        ({"suites": {"pocket": {"tables": [], "grid": "broken.png"}}}, "is no whole PNG"),
    ],
)
def test_damaged_and_foreign_figures_are_refused_in_words(
    host: Client, erasure: Path, sidecar: Any, change: dict[str, Any], said: str
) -> None:
    erasure.with_name("broken.png").write_bytes(b"no picture")
    sidecar(**change)
    with pytest.raises(QueueError, match=said):
        host.run(showing(erasure))


def test_what_is_not_there_is_said_with_what_to_do(host: Client, erasure: Path, sidecar: Any) -> None:
    with pytest.raises(QueueError, match=r"no figures of this erasure.*python -m eraser_core benchmark"):
        host.run(showing(erasure))
    with pytest.raises(QueueError, match=r"there is no file 'gone\.safetensors'"):
        host.run(showing(erasure, name="gone.safetensors"))
    sidecar()
    with pytest.raises(QueueError, match="there is no suite 'i2p' in this evaluation: it has pocket"):
        host.run(showing(erasure, "i2p"))
    outputs = host.run(showing(erasure))
    assert min(host.images(outputs, "grid")[0].shape[:2]) > 10  # says that there is none


def test_wide_tables_are_turned_round(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.evaluation import WIDE, lines, table

    def reported(columns: int) -> dict[str, Any]:
        heads = [f"figure {i}" for i in range(columns)]
        rows = [{"name": n, "cells": {h: {"text": f"{n}{i}"} for i, h in enumerate(heads)}} for n in "ab"]
        return {"columns": heads, "rows": rows}

    assert table(reported(WIDE))[:2] == [["", "a", "b"], ["figure 0", "a0", "b0"]]
    assert table(reported(WIDE - 1))[1] == ["a", *(f"a{i}" for i in range(WIDE - 1))]
    assert lines(table({"columns": [], "rows": []})) == [""]
