"""The demo writes each thing as soon as it is there, draws nothing twice, and never over what is not its own."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from eraser_core.commands.progress import Training
from eraser_core.errors import OutputError
from eraser_core.evaluation.pocket.tasks import object_task
from eraser_core.evaluation.report.chapter import page
from eraser_core.evaluation.report.pictures import kept_picture
from eraser_core.models import open_model
from eraser_core.training import Step

SHORT = {"iterations": 2, "pool_size": 8, "per_trajectory": 4, "sampler_steps": 2}


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    path = Path(__file__).parents[2] / "scripts" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo_script", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_script"] = module
    spec.loader.exec_module(module)
    return module


def test_a_task_writes_its_files_and_a_chapter(demo: ModuleType, tmp_path: Path) -> None:
    model = open_model("pocket", steps=2, solver="dpmpp", remember=True)
    assert model.concepts
    task = object_task(model.concepts, model.denoiser, "guitar", retain=["violin", "drum"], n=6)
    task = replace(task, sheets={sheet: task.sheets[sheet] for sheet in demo.SCORED if task.sheets.get(sheet)})
    chapter, spent = demo.run_task(model, task, 0, SHORT, tmp_path / "guitar", 0.0)
    names = {path.name for path in (tmp_path / "guitar").iterdir()}
    assert names == {"guitar.safetensors", "private", "before_after.png"}
    assert spent.fill_rows > 0 and spent.train_rows > 0 and spent.draw_rows > 0 and spent.score_rows > 0
    shown = chapter.pictures["the concept"]
    assert shown.width < 1.5 * shown.height, "a row would be too small to see on a telephone"
    said = page("title", "about", [chapter], "")
    assert "no longer show it" in said and "viewport" in said and "retain set" in said

    before = demo.rows_of(model)
    edit = replace(chapter, pictures={}).row  # the edit itself is known to the examiner only
    assert edit["erase"] == "guitar"
    kept_picture(model, task, model.examiner._edits[0])
    assert demo.rows_of(model) == before, "what was scored is shown, not drawn again"
    forgetful = open_model("pocket", steps=2, solver="dpmpp")
    kept_picture(forgetful, task, model.examiner._edits[0])
    before = demo.rows_of(forgetful)
    kept_picture(forgetful, task, model.examiner._edits[0])
    assert demo.rows_of(forgetful) > before, "an examiner that does not remember draws again"


def test_a_folder_that_is_no_demo_is_left_alone(demo: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("chapter one", encoding="utf-8")
    with pytest.raises(OutputError, match="no demo"):
        demo.claim(tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        demo.claim(tmp_path / "novel.txt")
    (tmp_path / "novel.txt").rename(tmp_path / "report.html")
    demo.claim(tmp_path)
    demo.claim(tmp_path / "new")


def test_a_log_file_gets_plain_lines(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level("INFO"), Training(8, 4) as progress:
        for _ in range(4):
            progress.fill(2)
        for i in range(1, 5):
            progress.step(Step(i, 4, {"erase": 0.5}, None))  # type: ignore[arg-type]
    lines = [record.getMessage() for record in caplog.records]
    assert sum(line.startswith("preparing") for line in lines) == 4
    assert any(line.startswith("training: 4 of 4 steps") for line in lines)
    assert not capsys.readouterr().err


def test_a_resumed_run_counts_its_own_steps_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), Training(0, 10) as progress:
        for i in range(7, 11):
            progress.step(Step(i, 10, {}, None))  # type: ignore[arg-type]
    lines = [record.getMessage() for record in caplog.records]
    assert not any(line.startswith("preparing") for line in lines)
    assert any(line.startswith("training: 4 of 4 steps") for line in lines)
