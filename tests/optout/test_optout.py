"""A register on a model: the same sums whatever the way there, only what is new is read, and nothing half-done is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import write_checkpoint

from eraser_core.__main__ import main
from eraser_core.erasure import load_erasure
from eraser_core.errors import FileFormatError, OutputError, RequestError
from eraser_core.files import read_tensors, write_tensors
from eraser_core.models import Model, open_model
from eraser_core.optout import looks
from eraser_core.optout.ledger import Ledger
from eraser_core.optout.plan import plan
from eraser_core.optout.register import Entry, Named, Register, hashed
from eraser_core.optout.run import Order, check_folder, make
from eraser_core.optout.said import optout_of
from eraser_core.optout.solve import Hooks
from eraser_core.request import Target
from eraser_core.text_moments import KEPT, OVERSHOOT, RIDGE, joint_map
from eraser_core.training import Step

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ("{}", "a drawing of {}")
TARGETS = tuple(
    Target(c, a, (), TEMPLATES)
    for c, a in (("a guitar", "a violin"), ("a dog", "a cat"), ("a truck", "a bus"), ("a soccer ball", "a basketball"))
)


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket", steps=2)


def sums(ledger: Ledger) -> torch.Tensor:
    return torch.cat([ledger.sums.c, ledger.sums.towards])


def test_names_that_come_and_go_leave_the_sums_of_those_that_are_there(model, tmp_path):
    grown = Ledger(model.denoiser, tmp_path / "a")
    assert grown.update(TARGETS[:2]).added == 2
    again = Ledger(model.denoiser, tmp_path / "a")
    changes = again.update(TARGETS[1:])
    assert (changes.added, changes.removed) == (2, 1)
    whole = Ledger(model.denoiser, tmp_path / "b")
    whole.update(TARGETS[1:])
    torch.testing.assert_close(sums(again), sums(whole), rtol=0, atol=1e-8)
    other = replace(TARGETS[3], anchor="a drum")
    assert again.update((*TARGETS[1:3], other)).added == 1  # another anchor is another target
    assert not torch.allclose(sums(again), sums(whole))


def test_a_stopped_reading_goes_on_where_it_was(model, tmp_path):
    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        Ledger(model.denoiser, tmp_path / "a").update(TARGETS, stop)
    left = Ledger(model.denoiser, tmp_path / "a")
    assert left.update(TARGETS).added == len(TARGETS) - 1
    whole = Ledger(model.denoiser, tmp_path / "b")
    whole.update(TARGETS)
    assert torch.equal(sums(left), sums(whole))


def test_a_damaged_ledger_is_refused_and_another_encoders_begun_anew(model, tmp_path):
    path = tmp_path / "a"
    Ledger(model.denoiser, path).update(TARGETS[:1])
    assert path.stat().st_mode & 0o077 == 0
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, metadata | {"reader": "another"})
    assert Ledger(model.denoiser, path).update(TARGETS[:1]).added == 1
    write_tensors(path, tensors | {"c": tensors["c"] + 1}, metadata)
    with pytest.raises(FileFormatError, match="damaged"):
        Ledger(model.denoiser, path)
    write_tensors(path, tensors | {"c": tensors["c"][:3]}, metadata)
    with pytest.raises(FileFormatError, match="other tensors"):
        Ledger(model.denoiser, path)


def planned(model: Model, *entries: Entry, names: dict[str, str] | None = None):
    known = tuple((e, e.name or (names or {})[e.name_hash]) for e in entries)
    return plan(model, Named(known, {}), (), 0, 1)


def test_an_object_in_an_erased_style_is_not_kept_as_it_was(model):
    """The retained objects' prompts in an erased style would teach the solve to keep that style."""
    entries = [Entry(name="guitar", kind="object"), Entry(name="ink")]
    mixed = planned(model, *entries).request
    assert not any("ink" in t for t in mixed.targets[0].templates)
    (alone,) = planned(model, entries[0]).request.targets
    assert any("ink" in t for t in alone.templates)
    assert mixed.erases("a house in ink style")
    assert not mixed.erases("a pink house")


def test_an_anchor_that_is_opted_out_is_refused_and_names_both(model):
    with pytest.raises(RequestError, match=r"dog.*cat"):
        planned(model, Entry(name="dog", anchor="cat"), Entry(name="cat"))


def test_what_the_model_cannot_draw_is_left_out_and_nothing_else(model):
    found = planned(model, Entry(name="gutar"), Entry(name="dog"))
    assert [e.label for e in found.entries] == ["dog"]
    assert "guitar" in found.left_out["gutar"]
    with pytest.raises(RequestError, match="none of the 1 entries"):
        planned(model, Entry(name="gutar"))


def line(label: str, target: str = "t", on: str = "") -> looks.Look:
    return looks.Look(label, "style", "", "", "", "", "", target, on=on)


def test_new_names_are_looked_at_and_of_the_others_those_seen_longest_ago():
    before = {n: line(n, on=day) for n, day in (("a", "2026-01-03"), ("b", "2026-01-01"), ("c", "2026-01-02"))}
    lines = [line("a"), line("b"), line("c", target="other"), line("d")]
    assert looks.to_look_at(lines, before, 1) == [1, 2, 3]
    assert looks.to_look_at(lines, before, 0) == [2, 3]
    assert looks.carried(lines, before)[0].on == "2026-01-03"
    assert looks.carried(lines, before)[2].on == ""


def register(folder: Path, *lines: str) -> Path:
    path = folder / "r.csv"
    path.write_text("\n".join(["name,name_hash,salt,kind,basis", *lines]), encoding="utf-8")
    return path


def test_the_command_erases_keeps_up_and_says_what_it_did(tmp_path, caplog):
    caplog.set_level("INFO")
    names = tmp_path / "names.txt"
    names.write_text("truck\n", encoding="utf-8")
    secret = f",{hashed('truck', 'x')},x,object,"
    out = tmp_path / "out" / "pocket"
    call = ["optout", "", "--out", str(tmp_path / "out"), "--images", "1", "--steps", "1"]
    call += ["--names", str(names), "--again", "0"]
    call[1] = str(register(tmp_path, "guitar,,,object,<asked>", secret))
    assert main(call) == 0
    first = load_erasure(out / "optout.safetensors")
    assert "2 names" in optout_of(first.facts)
    assert "not verified" in optout_of(first.facts)
    for file in ("index.html", "names.json", "record.json", "optout.safetensors"):
        assert b"truck" not in (out / file).read_bytes()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "&lt;asked&gt;" in page
    assert "Not verified" in page
    assert len(list((out / "pictures").glob("*.png"))) == 2

    caplog.clear()
    assert main(call) == 0
    assert "nothing has changed" in caplog.text

    call[1] = str(register(tmp_path, secret, "dog,,,object,"))
    assert main(call) == 0
    runs = json.loads((out / "record.json").read_text(encoding="utf-8"))
    assert [run["names"] for run in runs] == [2, 2]
    assert (runs[1]["added"], runs[1]["removed"], runs[1]["read"]) == (["dog"], ["guitar"], 2)
    second = load_erasure(out / "optout.safetensors")
    assert second.hash() != first.hash()
    assert second.hash() == runs[1]["erasure"]


def test_the_sums_give_what_uce_solves_for(model, tmp_path):
    call = ["optout", str(register(tmp_path, "guitar,,,object,", "dog,,,object,")), "--images", "0", "--out"]
    assert main([*call, str(tmp_path / "out")]) == 0
    found = load_erasure(tmp_path / "out" / "pocket" / "optout.safetensors").as_edit()
    request = planned(model, Entry(name="guitar", kind="object"), Entry(name="dog", kind="object")).request
    left, right = joint_map(model.denoiser, request, KEPT, RIDGE, OVERSHOOT, general=True).factors()
    for key, w in model.denoiser.weights("xattn-kv").items():
        expected = w.double() @ left @ right.T
        assert (found.deltas[key].double() - expected).norm() < 0.002 * expected.norm()


def test_a_stopped_training_goes_on_from_its_checkpoint(model, tmp_path):
    class Stop(Exception):
        pass

    seen: list[int] = []

    def stop_at_first(step: Step) -> None:
        seen.append(step.step)
        if len(seen) == 1:
            raise Stop

    asked = planned(model, Entry(name="guitar", kind="object"))
    values = {"iterations": 3, "pool_size": 2, "sampler_steps": 2, "batch": 1}
    order, of = Order("kpop", values, images=0), Register(asked.entries, "digest")
    hooks = Hooks(on_step=stop_at_first)
    with pytest.raises(Stop):
        make(model, asked, of, order, tmp_path, hooks)
    made = make(model, asked, of, order, tmp_path, hooks)
    assert seen == [1, 2, 3]
    assert len(made.prompts) == 1
    assert "1 name of" in optout_of(made.erasure.facts)
    other = make(model, asked, of, replace(order, values=values | {"iterations": 1}), tmp_path, hooks)
    assert seen == [1, 2, 3, 1]  # other settings begin anew
    assert other.erasure.hash() != made.erasure.hash()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "pocket").mkdir()
    (tmp_path / "pocket" / "mine.txt").write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="holds other files"):
        check_folder(tmp_path / "pocket")
    assert main(["optout", str(register(tmp_path, "guitar,,,object,")), "--out", str(tmp_path)]) == 2
    assert [p.name for p in (tmp_path / "pocket").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "OUT"], "name the register"),
        (["REGISTER"], "name the register and a folder"),
        (["REGISTER", "--out", "OUT", "--method", "no"], "no"),
        (["REGISTER", "--out", "OUT", "--model", "pocket", "pocket"], "two models have one name"),
        (["REGISTER", "--out", "OUT", "--names", "none.txt"], "UTF-8"),
        (["none.csv", "--out", "OUT"], "UTF-8"),
        (["REGISTER", "--out", "OUT", "--retain", "zither"], "zither"),
    ],
)
def test_wrong_calls_are_refused_and_write_nothing(tmp_path, capsys, words, message):
    path = register(tmp_path, "guitar,,,object,")
    out = tmp_path / "out"
    said = [{"REGISTER": str(path), "OUT": str(out)}.get(word, word) for word in words]
    assert main(["optout", *said]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_hash_for_a_register_is_printed(capsys):
    assert main(["optout", "--hash", "Ink"]) == 0
    salt, digest = capsys.readouterr().out.splitlines()[1].split(",")
    assert digest == hashed("ink", salt)


def test_two_processes_of_accelerate_share_the_models(tmp_path):
    pytest.importorskip("accelerate", reason="pip install -e '.[test]'")
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    models = [tmp_path / f"{name}.safetensors" for name in ("a", "b")]
    for i, model in enumerate(models):
        write_checkpoint(model, "sd1", seed=i)
    words = ["optout", str(register(tmp_path, "guitar,,,object,")), "--device", "cpu", "--images", "0", "--model"]
    words += [str(model) for model in models]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    code = [sys.executable, *launch, "-m", "eraser_core", *words, "--out", str(tmp_path / "two")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **threads}
    done = subprocess.run(code, env=env, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert main([*words, "--out", str(tmp_path / "one")]) == 0
    hashes = [
        [load_erasure(tmp_path / team / model.stem / "optout.safetensors").hash() for model in models]
        for team in ("two", "one")
    ]
    assert hashes[0] == hashes[1] and hashes[0][0] != hashes[0][1]
