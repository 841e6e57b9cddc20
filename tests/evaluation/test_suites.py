"""A suite's run on the pocket model: its files, killed and gone on with, on two processes, refused where it must be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up_erasures import by_uce

from eraser_core.__main__ import main
from eraser_core.erasure import Dense, load_erasure
from eraser_core.evaluation.pocket.tasks import object_task
from eraser_core.evaluation.report.sidecar import sidecar_of
from eraser_core.models import open_model

ROOT = Path(__file__).resolve().parents[2]
# Ends the process in the middle of its n-th write: half of the file's bytes are there, nothing is cleaned up.
DIES = """
import os, sys
left, real = [int(sys.argv[1])], os.fsync
def fsync(descriptor):
    left[0] -= 1
    if left[0] == 0:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        os._exit(9)
    real(descriptor)
os.fsync = fsync
from eraser_core.__main__ import main
sys.exit(main(sys.argv[2:]))
"""
PICTURES = 6  # three objects, once untouched and once erased


@pytest.fixture(scope="module")
def erasure(tmp_path_factory) -> Path:
    model = open_model("pocket")
    task = object_task(model.concepts, model.denoiser, "church", retain=["castle", "dog"], n=1)
    return by_uce(model, task, tmp_path_factory.mktemp("uce") / "church" / "erasure.safetensors")


def words(erasure: Path, out: Path, *more: str) -> list[str]:
    quick = ["--images", "1", "--classes", "2", "--steps", "2", "--batch", "2", "--maps", "0"]
    return ["benchmark", "pocket", "--erasure", str(erasure), *quick, "--out", str(out), *more]


@pytest.fixture(scope="module")
def whole(erasure, tmp_path_factory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("suite") / "whole"
    assert main(words(erasure, out)) == 0
    return out


def table(out: Path) -> dict:
    return json.loads((out / "tables.json").read_text(encoding="utf-8"))


def pictures(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in (out / "images").rglob("*.png")}


def done_files(out: Path) -> dict[str, int]:
    """Finished pictures and scores, with the time of their writing."""
    found = [p for room in ("images", "scores") for p in (out / room).rglob("*") if p.is_file()]
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in found if not p.name.endswith(".part")}


def test_a_run_writes_its_manifest_pictures_scores_tables_and_page(whole, erasure):
    manifest = json.loads((whole / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["models"]["church"]["batches"] == manifest["models"]["untouched"]["batches"]
    assert len(manifest["items"]) == 3 and all(item["seed"] for item in manifest["items"])
    assert len(pictures(whole)) == PICTURES
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http://www.w3.org", "") and "data:image/png;base64," in page
    assert "KPOP (quoted)" in page and "ESR-1 (up)" in page
    found = {t["title"]: t for t in table(whole)["tables"]}
    rows = {row["name"]: row for row in found["Erasing object-related concepts"]["rows"] if not row["quoted"]}
    assert set(rows) == {"untouched", "church"} and rows["church"]["cells"]["ESR-1"]["n"] == 1
    (difference,) = found["Differences, paired by seed: objects"]["rows"]
    assert difference["name"] == "church - untouched" and difference["cells"]["PSR-1"]["n"] == 2


def test_the_erasure_gets_its_figures_beside_it(whole, erasure):
    said = json.loads(sidecar_of(erasure).read_text(encoding="utf-8"))
    found = said["suites"]["pocket"]
    assert sidecar_of(erasure).name == "erasure.evaluation.json" and (erasure.parent / found["grid"]).is_file()
    names = [row["name"] for t in found["tables"] for row in t["rows"] if not row["quoted"]]
    assert names == ["untouched", "church", "church - untouched"]
    assert str(whole) not in json.dumps(said)


POINTS = {
    "before the manifest": (1, 0, 0),
    "in the middle of an image": (1 + 4, 3, 0),
    "in the middle of the scores": (1 + PICTURES + 2, PICTURES, 1),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_goes_on_to_the_same_table_and_does_nothing_twice(point, whole, erasure, tmp_path):
    writes, drawn, scored = POINTS[point]
    out, env = tmp_path / "killed", {**os.environ, "PYTHONPATH": str(ROOT)}
    code = [sys.executable, "-c", DIES, str(writes), *words(erasure, out)]
    assert subprocess.run(code, env=env, capture_output=True, check=False).returncode == 9
    assert len(list(out.rglob(".*.part"))) == 1  # it died in the middle of a file
    assert (out / "manifest.json").is_file() == (drawn > 0) and not (out / "tables.json").exists()
    before = done_files(out)
    assert len(before) == drawn + scored
    assert main(words(erasure, out)) == 0
    assert table(out) == table(whole) and pictures(out) == pictures(whole)
    assert {name: time for name, time in done_files(out).items() if name in before} == before
    assert not list(out.rglob("*.part"))


def test_what_lies_in_the_folder_is_what_is_scored(whole, erasure, tmp_path):
    """The control of the tests above: were a picture another, the table would be."""
    out = tmp_path / "changed"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "scores")
    (church,) = (p for p in (out / "images" / "untouched").iterdir() if p.name == first_church(whole))
    shutil.copyfile(next(p for p in (out / "images" / "untouched").iterdir() if p != church), church)
    assert main(words(erasure, out)) == 0
    assert table(out) != table(whole)


def first_church(out: Path) -> str:
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    return next(f"{item['index']:07d}.png" for item in manifest["items"] if item["concept"] == "church")


def test_a_finished_run_draws_nothing_again(whole, erasure, monkeypatch):
    before = done_files(whole)

    def never(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr("eraser_core.evaluation.suites.runner.draw", never)
    assert main(words(erasure, whole)) == 0
    assert done_files(whole) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a process of its own")
def test_ctrl_c_stops_between_batches_and_the_same_command_goes_on(whole, erasure, tmp_path, monkeypatch, caplog):
    from eraser_core.evaluation.suites import runner

    draw, calls = runner.draw, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(*arguments)

    monkeypatch.setattr(runner, "draw", interrupted)
    caplog.set_level("INFO")
    out = tmp_path / "stopped"
    assert main(words(erasure, out)) == 130 and "the same command goes on" in caplog.text
    assert len(pictures(out)) == 3 and len(calls) == 2  # the batch in hand was finished
    assert main(words(erasure, out)) == 0 and len(calls) == 4
    assert table(out) == table(whole)


def test_two_processes_of_accelerate_give_the_table_of_one(whole, erasure, tmp_path):
    pytest.importorskip("accelerate", reason="pip install -e '.[test]'")
    # accelerate gives each process one thread unless told; another number of threads rounds the last bit otherwise.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    out, env = tmp_path / "two", {**os.environ, "PYTHONPATH": str(ROOT), **threads}
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    code = [sys.executable, *launch, "-m", "eraser_core", *words(erasure, out)]
    done = subprocess.run(code, env=env, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert table(out) == table(whole) and pictures(out) == pictures(whole)


def test_another_run_in_the_folder_is_refused_and_kept(whole, erasure, tmp_path, capsys):
    before = done_files(whole)
    assert main([*words(erasure, whole), "--suite-seed", "1"]) == 2
    assert "holds another run (its suite_seed differs)" in capsys.readouterr().err
    assert done_files(whole) == before
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(words(erasure, tmp_path)) == 2
    assert "in use" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert main([*words(erasure, tmp_path), "--force"]) == 2  # force replaces runs, never other files
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_force_replaces_another_run(whole, erasure, tmp_path):
    out = tmp_path / "again"
    shutil.copytree(whole, out)
    (out / "maps.png").write_bytes(b"of the other run")
    assert main([*words(erasure, out), "--suite-seed", "1", "--force"]) == 0
    assert not (out / "maps.png").exists()
    assert len(pictures(out)) == PICTURES and json.loads((out / "manifest.json").read_text())["suite_seed"] == 1
    church = f"images/untouched/{first_church(whole)}"
    assert (out / church).read_bytes() != (whole / church).read_bytes()


def test_force_draws_a_changed_erasure_again_and_keeps_the_others(whole, erasure, tmp_path):
    out, other = tmp_path / "again", tmp_path / erasure.parent.name / erasure.name
    shutil.copytree(whole, out)
    before = done_files(out)
    loaded = load_erasure(erasure)
    scaled = {key: Dense(0.05 * entry.delta()) for key, entry in loaded.entries.items()}  # so little erases nothing
    other.parent.mkdir()
    replace(loaded, entries=scaled).save(other)
    changed = words(other, out)
    assert main(changed) == 2 and done_files(out) == before
    assert main([*changed, "--force"]) == 0
    after = done_files(out)
    kept = {name for name in before if "untouched/" in name and before[name] == after.get(name)}
    assert kept == {name for name in before if "untouched/" in name} and len(kept) > 2
    redrawn = {n for n in before if n.startswith("images/") and n not in kept}
    assert redrawn and all(before[name] != after[name] for name in redrawn)
    assert table(out) != table(whole)


def test_an_erasure_given_twice_is_one_line(erasure, tmp_path, capsys):
    """Wrong numbers are in the table of wrong calls."""
    assert main(words(erasure, tmp_path / "out", "--erasure", str(erasure))) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "given twice" in lines[0] and not (tmp_path / "out").exists()


def test_a_destroyed_model_scores_badly_on_what_it_should_keep(tmp_path):
    """Noise in the weights: PSR falls, judge-LPIPS is far from 0, and an erasure of nothing scores as untouched."""
    from dataclasses import replace

    from eraser_core.erasure import Dense, load_erasure

    model = open_model("pocket")
    task = object_task(model.concepts, model.denoiser, "church", retain=["castle"], n=1)
    plain = load_erasure(by_uce(model, task, tmp_path / "plain.safetensors"))
    generator = torch.Generator().manual_seed(0)
    weights = model.denoiser.weights("xattn-kv")
    for name, scale in (("nothing", 0.0), ("noise", 1.0)):
        entries = {k: Dense(scale * torch.randn(w.shape, generator=generator)) for k, w in weights.items()}
        modules = {k.rpartition(".")[0] for k in entries}
        names = {m: n for m, n in model.denoiser.file_names().items() if m in modules}
        replace(plain, entries=entries, file_names=names).save(tmp_path / f"{name}.safetensors")
    erasures = [str(tmp_path / f"{name}.safetensors") for name in ("nothing", "noise")]
    quick = ["--images", "1", "--classes", "6", "--steps", "3", "--maps", "0", "--out", str(tmp_path / "out")]
    assert main(["benchmark", "pocket", "--erasure", *erasures, *quick]) == 0
    (rows,) = [t["rows"] for t in table(tmp_path / "out")["tables"] if t["title"] == "Erasing object-related concepts"]
    shares = {row["name"]: row["cells"]["PSR-1"]["value"] for row in rows if not row["quoted"]}
    assert shares["nothing"] == shares["untouched"] >= 0.6 and shares["noise"] <= 0.4
    assert pictures(tmp_path / "out")  # and an erasure of nothing draws the very same pictures
    drawn = tmp_path / "out" / "images"
    for path in (drawn / "untouched").iterdir():
        assert (drawn / "nothing" / path.name).read_bytes() == path.read_bytes()
        assert (drawn / "noise" / path.name).read_bytes() != path.read_bytes()


def test_the_slides_tables_are_made_by_one_command(tmp_path):
    code = [sys.executable, str(ROOT / "benchmarks" / "results.py"), "--smoke"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(code, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    out = tmp_path / "out" / "results_smoke"
    titles = {t["title"]: t for t in table(out / "pocket")["tables"]}
    names = [row["name"] for row in titles["Recovering the erased concepts"]["rows"]]
    rows = json.loads((tmp_path / "out" / "benchmarks" / "results_smoke.json").read_text(encoding="utf-8"))
    assert any(r["row"] == "KPOP" for r in rows if r["quoted"])
    assert {r["table"] for r in rows} == set(titles)
    assert names == ["kpop"] and "### Erasing object-related concepts" in done.stdout
    assert (out / "pocket" / "maps.png").is_file() and (out / "pocket" / "cosines.svg").is_file()
    assert list((out / "erasures" / "objects" / "kpop").glob("*.evaluation.json"))
