"""The command line as a user types it, on the shipped pocket model."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from tiny_model import QUICK

from eraser_core.__main__ import main
from eraser_core.commands import folder
from eraser_core.erasure import load_erasure
from eraser_core.errors import OutputError
from eraser_core.pocket.model import FLOW_WEIGHTS, WEIGHTS
from eraser_core.request import Request

ERASE = ["erase", "--model", "pocket", "--concept", "church", "--anchor", "castle"]
ROOT = Path(__file__).resolve().parents[2]


def command(*words: str, **kwargs) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "eraser_core", *words], stderr=subprocess.PIPE, text=True, cwd=ROOT, **kwargs
    )


@pytest.fixture(scope="module")
def erased(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("erased") / "church"
    assert main([*ERASE, *QUICK, "--images", "4", "--out", str(out)]) == 0
    return out


def test_erase_writes_its_four_files(erased):
    names = {p.name for p in erased.iterdir()}
    assert names == {"church.safetensors", "private", "before_after.png", "metrics.json", "run.json"}
    assert [p.name for p in (erased / "private").iterdir()] == ["church_hidden_prompt.safetensors"]
    if os.name != "nt":
        modes = [path.stat().st_mode & 0o777 for path in (erased / "private", *(erased / "private").iterdir())]
        assert modes == [0o700, 0o600]
    (row,) = json.loads((erased / "metrics.json").read_text(encoding="utf-8"))["targets"]
    assert row["erase"] == "church" and row["n_images"] == 4 and 0 <= row["psr1"] <= 1
    assert Image.open(erased / "before_after.png").width > 400


def test_generate_draws_with_the_erasure_and_the_hidden_prompt(erased, tmp_path):
    files = [
        "--erasure",
        str(erased / "church.safetensors"),
        "--hidden-prompt",
        str(erased / "private" / "church_hidden_prompt.safetensors"),
    ]
    draw = ["generate", "--model", "pocket", "--prompt", "a church", "--n", "2", "--steps", "3", "--out"]
    assert main([*draw, str(tmp_path / "plain.png")]) == 0
    assert main([*draw, str(tmp_path / "erased.png"), *files[:2], "--strength", "20"]) == 0
    assert main([*draw, str(tmp_path / "back.png"), *files]) == 0
    pictures = [Image.open(tmp_path / f"{n}.png").tobytes() for n in ("plain", "erased", "back")]
    assert len(set(pictures)) == 3
    singles = [Image.open(tmp_path / f"plain_0{i}.png") for i in (1, 2)]
    assert {picture.size for picture in singles} == {(128, 128)}, "the pocket's 64 pixels, twice as large"
    small = [picture.resize((64, 64), Image.Resampling.NEAREST) for picture in singles]
    assert all(s.resize((128, 128), 0).tobytes() == p.tobytes() for s, p in zip(small, singles, strict=True))


def test_generate_writes_over_nothing_that_it_was_not_told_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["generate", "--prompt", "a church", "a dog", "--n", "1", "--steps", "1"]
    assert main(words) == 0 and main(words) == 0
    names = {f"generated{number}{single}.png" for number in ("", "-2") for single in ("", "_01", "_02")}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names


def test_score_gives_the_figures_that_erase_wrote(erased, tmp_path):
    words = ["score", "--erasure", str(erased / "church.safetensors"), "--images", "4", "--steps", "3"]
    words += [
        "--hidden-prompt",
        str(erased / "private" / "church_hidden_prompt.safetensors"),
        "--out",
        str(tmp_path / "s.json"),
    ]
    assert main(words) == 0
    (scored,) = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    (written,) = json.loads((erased / "metrics.json").read_text(encoding="utf-8"))["targets"]
    assert scored == written


def test_score_prints_a_table_with_a_verdict_or_json(erased, capsys):
    words = ["score", "--erasure", str(erased / "church.safetensors"), "--images", "2", "--steps", "3"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "church, 2 pictures a line" in said and "VERDICT: " in said and "  the concept is seen " in said
    assert "with its hidden prompt" not in said and "{" not in said, "none was given"
    assert main([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["n_images"] == 2 and row["recovery1"] is None


def test_info_reads_a_file_and_keeps_the_key_seed_to_itself(erased, capsys):
    assert (
        main(["info", str(erased / "church.safetensors"), str(erased / "private" / "church_hidden_prompt.safetensors")])
        == 0
    )
    said = capsys.readouterr().out
    assert "a church, drawing a castle in its place" in said and "kpop (Bui" in said and "0.1 MB" in said
    assert "private" in said and "modelspec" not in said
    files = [str(erased / "church.safetensors"), str(erased / "private" / "church_hidden_prompt.safetensors")]
    assert main(["info", "--raw", *files]) == 0
    said = capsys.readouterr().out
    assert "erasure.method: kpop" in said and "hidden_prompt.concepts" in said and "key_seed" not in said
    for weights, name in ((WEIGHTS, "pocket"), (FLOW_WEIGHTS, "pocket-flow")):
        assert main(["info", str(weights)]) == 0
        assert (
            f"a pocket model, which comes with this program; in commands it is called `--model {name}`"
            in capsys.readouterr().out
        )
    assert main(["erase", "--model", str(WEIGHTS), "--concept", "church", "--out", str(erased / "new")]) == 2
    assert "--model pocket" in capsys.readouterr().err
    assert main(["info", "--model", "pocket"]) == 0
    assert "church" in capsys.readouterr().out


def test_a_style_and_two_concepts_at_once(tmp_path):
    words = ["erase", *QUICK, "--images", "2", "--out"]
    assert main([*words, str(tmp_path / "ink"), "--concept", "ink"]) == 0
    assert main([*words, str(tmp_path / "two"), "--concept", "church", "--concept", "guitar"]) == 0
    rows = json.loads((tmp_path / "two" / "metrics.json").read_text(encoding="utf-8"))["targets"]
    assert [row["erase"] for row in rows] == ["church", "guitar"]
    assert all(row["forged_other1"] is not None for row in rows)


BAD = {
    "an unknown model": (["--model", "no/such/model", "--concept", "x"], "no/such/model"),
    "an empty concept": (["--concept", ""], "empty"),
    "no concept": ([], "--concept"),
    "a concept the model does not draw": (["--concept", "zebra"], "zebra"),
    "a concept equal to its anchor": (["--concept", "church", "--anchor", "church"], "the concept itself"),
    "a retain set that holds the concept": (["--concept", "church", "--retain", "dog", "church"], "retain set"),
    "k = 0": (["--concept", "church", "--k", "0"], "k: "),
    "a setting of another method": (["--concept", "church", "--method", "naive", "--k", "3"], "k: "),
    "a setting that is no number": (["--concept", "church", "--eta", "fast"], "eta"),
    "two anchors for one concept": (["--concept", "church", "--anchor", "dog", "--anchor", "cat"], "anchors"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case, tmp_path, capsys):
    words, said = BAD[case]
    assert main(["erase", *words, *QUICK, "--out", str(tmp_path / "out")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and said in lines[0]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_folder_in_use_is_refused_and_keeps_what_it_holds(erased, capsys):
    before = (erased / "church.safetensors").read_bytes()
    assert main([*ERASE, *QUICK, "--out", str(erased)]) == 2
    assert "--force" in capsys.readouterr().err
    assert (erased / "church.safetensors").read_bytes() == before
    assert main([*ERASE, "--out", str(erased / "metrics.json")]) == 2


def test_force_replaces_results(tmp_path):
    (tmp_path / "metrics.json").write_text("old", encoding="utf-8")
    assert main([*ERASE, *QUICK, "--images", "0", "--out", str(tmp_path), "--force"]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["targets"] == []


def test_force_leaves_nothing_of_the_erasure_that_it_replaces(erased, tmp_path):
    out = tmp_path / "church"
    shutil.copytree(erased, out)
    (out / "church.evaluation.json").write_text("{}", encoding="utf-8")
    assert main([*ERASE, "--method", "uce", "--images", "0", "--out", str(out), "--force"]) == 0
    assert {p.name for p in out.iterdir()} == {"church.safetensors", "metrics.json", "run.json"}


def test_force_leaves_nothing_of_another_concept_that_it_replaces(erased, tmp_path):
    out = shutil.copytree(erased, tmp_path / "church")
    (out / "mine.safetensors").write_bytes(b"of somebody else")
    for old in folder.OLD:
        shutil.copy(erased / "church.safetensors", out / f"{old}.safetensors")
    words = ["erase", "--concept", "guitar", "--method", "uce", "--images", "0", "--out", str(out), "--force"]
    assert main(words) == 0
    assert {p.name for p in out.iterdir()} == {"guitar.safetensors", "mine.safetensors", "metrics.json", "run.json"}


NAMES = {
    "church": ["a church"],
    "church_night_castle": ["church|chapel", "the night castle"],
    "Kilian_Eng": ["Kilian Eng"],
    "concept": ["\u5317\u658e"],
    "erasure": ["../erasure"],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_runs_files_have_the_concepts_names(name, tmp_path):
    assert folder.results(tmp_path, NAMES[name]).name == name
    assert len(folder.results(tmp_path, NAMES[name] * 30).name) <= 60


def test_a_new_run_takes_no_other_runs_checkpoint_over(tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / folder.CHECKPOINT).write_bytes(b"of another run")
    folder.keep_arguments(tmp_path, argparse.Namespace(concept=["castle"]))
    with pytest.raises(OutputError, match="before its first checkpoint"):
        folder.resumed(argparse.Namespace(resume=tmp_path))


MIXED = {
    "a style and an object": ["ink", "castle"],
    "a category and an object": ["animal", "church"],
    "a category and a style": ["animal", "ink"],
}


@pytest.mark.parametrize("kinds", MIXED)
def test_concepts_of_several_kinds_are_erased_in_one_run(kinds, tmp_path):
    words = [word for concept in MIXED[kinds] for word in ("--concept", concept)]
    assert main(["erase", *words, "--method", "uce", "--images", "2", "--steps", "3", "--out", str(tmp_path)]) == 0
    path = folder.results(tmp_path, MIXED[kinds]).erasure
    erasure = load_erasure(path)
    request = Request.from_facts(json.loads(erasure.facts["erasure.request"]))
    assert len(request.targets) == 2
    erased_prompts = {c_e.lower() for target in request.targets for c_e, _ in target.pairs()}
    assert request.retain and not erased_prompts & {prompt.lower() for prompt in request.retain}
    words = ["score", "--erasure", str(path), "--images", "2", "--steps", "3"]
    assert main([*words, "--out", str(tmp_path / "s.json")]) == (2 if "category" in kinds else 0)


@pytest.mark.parametrize("kind", ["cut in half", "not safetensors", "of another architecture"])
def test_a_wrong_erasure_file_is_refused(kind, erased, tmp_path, capsys):
    path, whole = tmp_path / "bad.safetensors", (erased / "church.safetensors").read_bytes()
    path.write_bytes({"cut in half": whole[: len(whole) // 2], "not safetensors": b"x" * 100}.get(kind, whole))
    if kind == "of another architecture":
        from dataclasses import replace

        replace(load_erasure(path), family="sd1").save(path)
    assert main(["generate", "--erasure", str(path), "--prompt", "a dog", "--out", str(tmp_path / "x.png")]) == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_full_disk_leaves_no_half_written_result(tmp_path):
    """A limit on the size of written files stands in for a full disk: the system call fails alike."""
    code = (
        "import resource, signal, sys; from eraser_core.__main__ import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = [*ERASE, *QUICK, "--images", "0", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert "free some space" in done.stderr.splitlines()[-1]
    assert {p.name for p in (tmp_path / "out").iterdir()} <= {"run.json"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child process")
def test_ctrl_c_leaves_a_checkpoint_from_which_the_run_goes_on(tmp_path):
    out = tmp_path / "church"
    quick = ["60" if word == "2" else word for word in QUICK]
    process = command(*ERASE, *quick, "--images", "0", "--out", str(out))
    while not (out / folder.CHECKPOINT).is_file():  # it lies there before the first step
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "--resume" in said
    assert {p.name for p in out.iterdir()} == {"run.json", "private"}
    assert main([*ERASE, "--out", str(out)]) == 2
    assert main(["erase", "--resume", str(out), "--device", "cpu"]) == 0
    assert (out / "church.safetensors").is_file() and not (out / folder.CHECKPOINT).exists()
    losses = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["losses"]
    assert len(losses) == 60


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child process")
def test_ctrl_c_in_scoring_keeps_the_erasure(tmp_path):
    out = tmp_path / "church"
    process = command(*ERASE, "--method", "uce", "--no-check", "--images", "500", "--out", str(out))
    while not (out / "before_after.png").is_file():  # it is drawn before anything is scored
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and f"the erasure is kept: {out / 'church.safetensors'}" in said
    assert load_erasure(out / "church.safetensors").entries
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8"))["targets"] == []


def test_the_first_line_names_model_and_device_and_the_last_one_the_file_and_a_verdict(tmp_path):
    out = tmp_path / "two words"
    _, said = command(*ERASE, "--method", "uce", "--images", "2", "--steps", "3", "--out", str(out)).communicate()
    lines = said.splitlines()
    assert lines[0].startswith("model pocket on ")
    written = next(i for i, line in enumerate(lines) if line.startswith("written: ") and "church.safetensors" in line)
    assert written < next(i for i, line in enumerate(lines) if line.startswith("scoring church: "))
    assert f"score --erasure '{out / 'church.safetensors'}'" in said and "--images 60" in said
    last = lines[-1]
    assert last.startswith(f"{out / 'church.safetensors'}: church: still seen in ") and "VERDICT: " in last


def test_there_is_nothing_to_resume_in_a_finished_run(erased, capsys):
    assert main(["erase", "--resume", str(erased)]) == 2
    assert "no interrupted run" in capsys.readouterr().err
