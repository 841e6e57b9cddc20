"""Help and refused words come at once, and say what the engine has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from eraser_core import __version__
from eraser_core.__main__ import main
from eraser_core.commands import arguments
from eraser_core.commands.loading import usable
from eraser_core.errors import RequestError
from eraser_core.methods import METHODS
from eraser_core.precision import DTYPES

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import sys
from eraser_core.__main__ import main
try:
    code = main(sys.argv[1:])
except SystemExit as error:
    code = error.code
sys.exit((code or 0) + 100 * ("torch" in sys.modules))
"""


def ended(*words: str) -> tuple[int, str]:
    run = [sys.executable, "-c", LOOK, *words]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.returncode, done.stdout + done.stderr


def test_help_and_a_wrong_word_need_no_torch() -> None:
    code, said = ended("erase", "--help")
    assert code == 0 and "--concept WORD" in said and "files:" in said
    code, said = ended("erase", "--concept", "church", "--method", "magic")
    assert code == 2 and "there is no method 'magic'" in said


def test_the_look_itself_sees_torch() -> None:
    """The control: the settings of a method are read from the engine."""
    code, said = ended("erase", "--method", "uce", "--help")
    assert code == 100 and "--s-e NUMBER" in said


def test_the_names_are_those_of_the_engine() -> None:
    assert tuple(METHODS) == arguments.METHODS and tuple(DTYPES) == arguments.DTYPES
    own = {field.alias or name for method in METHODS.values() for name, field in method.settings.model_fields.items()}
    assert set(arguments.SETTINGS) == own and len(arguments.SETTINGS) == len(own)


@pytest.mark.parametrize("words", [["erase", "--method", "dp", "--help"], ["erase", "-h", "--method", "dp"]])
def test_the_help_of_a_method_has_its_settings_alone(words, capsys) -> None:
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "--directions N" in said and "default: 4" in said and "--layers kv|k|v" in said
    assert "--eta" not in said and "--anchor" not in said


def test_the_help_of_a_method_says_where_a_default_is_another(capsys) -> None:
    assert main(["erase", "--method", "kpop", "--help"]) == 0
    said = capsys.readouterr().out
    assert "default: 1000; 100 on pocket" in said and "--null-space true|false" in said
    assert main(["erase", "--method", "magic", "--help"]) == 2


def test_several_words_after_one_switch_or_several_switches() -> None:
    parse = arguments.build_parser().parse_args
    one = parse(["erase", "--concept", "church", "ink", "--concept", "guitar", "--anchor", "castle", "clay"])
    assert one.concept == ["church", "ink", "guitar"] and one.anchor == ["castle", "clay"] and one.retain is None
    assert parse(["erase", "--retain"]).retain == []
    for command, more in (("score", []), ("merge", ["--model", "m", "--out", "o"]), ("benchmark", ["--out", "o"])):
        suite = ["pocket"] if command == "benchmark" else []
        found = parse([command, *suite, *more, "--erasure", "a", "b", "--erasure", "c"])
        assert found.erasure == [Path("a"), Path("b"), Path("c")]
        assert parse([command, *suite, *more, "--erasure", "d"]).erasure == [Path("d")], "a default that grew"


def test_the_version_is_the_packages(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"concept-eraser {__version__}\n"
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__
    assert project["scripts"] == {"concept-eraser": "eraser_core.__main__:entry"}


def test_the_device_is_the_fastest_that_is_there(monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert usable("auto") == "cpu"
    with pytest.raises(RequestError, match="--device cuda:0: this machine"):
        usable("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert usable("auto") == "cuda" and usable("cuda:1") == "cuda:1" and usable("cpu") == "cpu"
