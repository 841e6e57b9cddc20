"""The examples of docs/python.md run as they stand there, with fewer steps; and `import eraser_core` stays light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_folder import pipeline_folder
from tiny_model import TINY_STEPS
from tiny_transformers import transformer_folder

import eraser_core
from eraser_core import erase, open_model, score
from eraser_core.errors import OutputError, RequestError
from eraser_core.run_files import LONGEST, results

pytest.importorskip("peft", reason="diffusers' LoRA loader needs it")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
TINY = ", ".join(f'"{name}": {value}' for name, value in TINY_STEPS.items())
FEWER = {'"iterations": 100': TINY, 'open_model("pocket")': 'open_model("pocket", steps=2)', "n=24": "n=2"}
FEWER |= {"num_inference_steps=25": 'num_inference_steps=2, output_type="pil"'}
UCE = {"method": "uce", "anchors": "violin"}


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.+?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_every_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    code = "\n".join(blocks())
    for long, short in FEWER.items():
        assert long in code, f"{long!r} is not on the page any more: this test would run the full length"
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    pipeline_folder(tmp_path / "models" / "sd15")
    transformer_folder(tmp_path / "models" / "FLUX.1-dev", "flux1")
    exec(compile(code, str(PAGE), "exec"), {"__name__": "page"})
    said = capsys.readouterr().out
    assert "of 4 show a guitar" in said and "part-way" in said
    assert (tmp_path / "church.png").is_file() and (tmp_path / "out" / "flux" / "church.safetensors").is_file()
    assert (tmp_path / "out" / "guitar" / "private" / "guitar_hidden_prompt.safetensors").is_file()


def test_the_example_of_a_method_is_no_longer_than_it_says():
    (method,) = [block for block in blocks() if "class PartWay(" in block]
    assert len(method.splitlines()) <= 45


def modules_after(line: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{line}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PAGE.parents[1],
    )
    return set(done.stdout.split())


def test_the_import_is_light_and_a_name_brings_torch():
    assert not {"torch", "diffusers", "transformers", "pydantic"} & modules_after("import eraser_core")
    assert "torch" in modules_after("from eraser_core import load_erasure")


def test_every_name_is_there_and_no_other():
    for name in eraser_core.__all__:
        assert getattr(eraser_core, name) is not None and name in dir(eraser_core)
    with pytest.raises(AttributeError, match="magic"):
        eraser_core.magic  # noqa: B018


def test_a_result_is_not_saved_over_another(tmp_path):
    model = open_model("pocket", steps=2)
    result = erase(model, ["a guitar"], **UCE)
    path = result.save(tmp_path)
    assert path.name == "guitar.safetensors" and not (tmp_path / "private").exists()  # uce learns no prompt
    before = path.read_bytes()
    with pytest.raises(OutputError, match="already"):
        result.save(tmp_path)
    assert path.read_bytes() == before


def test_a_result_of_many_concepts_has_the_name_that_the_command_gives_it(tmp_path):
    names = ["guitar", "soccer ball", "sunflower", "helicopter", "locomotive", "basketball", "motorcycle"]
    path = erase(open_model("pocket"), names, method="uce").save(tmp_path)
    assert path == results(tmp_path, names).erasure
    assert len(path.stem) <= LONGEST < len("_".join(names)) and path.stem.startswith("guitar_soccer")


def test_the_engine_is_asked_the_same_as_by_the_command(tmp_path):
    from eraser_core.__main__ import main
    from eraser_core.erasure import load_erasure

    words = ["erase", "--concept", "guitar", "--anchor", "violin", "--method", "uce", "--images", "0", "--no-check"]
    assert main([*words, "--out", str(tmp_path / "o")]) == 0
    (file,) = (tmp_path / "o").glob("*.safetensors")
    assert load_erasure(file).hash() == erase(open_model("pocket"), "guitar", **UCE).erasure.hash()


def test_what_cannot_be_done_is_said_in_words():
    model = open_model("pocket", steps=2)
    with pytest.raises(RequestError, match="2 anchors"):
        erase(model, "guitar", anchors=["violin", "drum"])
    with pytest.raises(RequestError, match="no method"):
        erase(model, "guitar", method="magic")
    with pytest.raises(RequestError, match="iterations"):
        erase(model, "guitar", settings={"iterations": "many"})
    with pytest.raises(RequestError, match="at least one"):
        score(model, erase(model, "guitar", **UCE).erasure, n=0)


def test_type_checkers_are_told_that_the_package_is_typed():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((PAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["eraser_core"]
    assert (PAGE.parents[1] / "eraser_core" / "py.typed").is_file()
