"""Killed runs: no half-written file, no earlier result lost, and the same tensors in the end.

`python -m pytest tests/reliability -m slow -s` kills 200 of them, fills the disk, starts two at once, and writes
out/benchmarks/kills.json; docs/reliability.md has its figures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cases
import judge
import pytest
from campaign import Campaign, rows
from killing import Server, bound

from eraser_core.commands import folder
from eraser_core.files import write_json

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out" / "benchmarks"
ENGINE, NODE, SEED = 168, 32, 0
FORCED = "erase --force, closed form"
# By name: the command, how it ends, and where: the few that an ordinary run of the tests has time for.
FEW = {
    "a kill between the erasure and its hidden prompt": ("erase --resume", "SIGKILL", ("church.safe", "named")),
    "a termination within the hidden prompt": ("erase --resume", "SIGTERM", ("church_hidden", "half")),
    "a kill as the new erasure is whole": (FORCED, "SIGKILL", ("church.safe", "written")),
    "Ctrl-C as the earlier figures go": (FORCED, "SIGINT", ("metrics", "removed")),
    "a full disk": (FORCED, "full", ("church.safe", "half")),
    "a kill within a picture": ("benchmark", "SIGKILL", ("0", "half")),
    "a termination within a shared folder's card": ("share", "SIGTERM", ("README", "half")),
    "a kill as a shared folder takes its place": ("share --force", "SIGKILL", ("README", "removed")),
    "Ctrl-C as the earlier shared folder goes": ("share --force", "SIGINT", ("README", "removed")),
    "Ctrl-C within the page": ("benchmark", "SIGINT", ("report", "half")),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("logs")) as found:
        yield found


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> cases.Makings:
    return cases.Makings(server, tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def campaign(server: Server, made: cases.Makings, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(server, cases.cases(made), tmp_path_factory.mktemp("runs"), SEED)


def case_of(made: cases.Makings, name: str) -> cases.Case:
    return next(case for case in cases.cases(made) if case.name == name)


@pytest.mark.parametrize("what", FEW)
def test_a_killed_run_leaves_whole_files_and_goes_on(campaign, made, what):
    name, how, point = FEW[what]
    _, verdict = campaign.kill(case_of(made, name), how, point=point)
    assert not verdict.faults
    assert verdict.end != "finished" or what == "Ctrl-C within the page"  # it comes after the last batch


def test_a_writer_that_is_not_careful_is_caught(server, made, tmp_path):
    """The control: the same kill in a file that is written under its own name leaves what the judge refuses."""
    words = [
        "erase",
        "--concept",
        "church",
        "--method",
        "uce",
        "--no-check",
        "--images",
        "0",
        "--out",
        str(tmp_path / "o"),
    ]
    server.run(words, {"file": "church.safe", "when": "half", "do": "SIGKILL", "careless": "yes"})
    assert any("church" in fault for fault in judge.half_written(tmp_path / "o"))


def test_an_earlier_result_that_is_lost_is_noticed(made, tmp_path):
    """The control of the other half: a hidden prompt that vanished, and figures of another run."""
    before = judge.files(made.earlier)
    for harm in ("prompt", "metrics"):
        where = shutil.copytree(made.earlier, tmp_path / harm)
        if harm == "prompt":
            folder.results(where, ["guitar"]).prompt.unlink()
        else:
            (where / folder.METRICS).write_text("{}", encoding="utf-8")
        assert judge.lost_from_erasing(where, before, {})


def test_a_shared_folder_of_two_sharings_is_noticed(tmp_path):
    """The control: the new card beside the earlier erasure."""
    where = tmp_path / judge.SHARED
    where.mkdir()
    for name in ("README.md", "x.safetensors"):
        (where / name).write_text("old", encoding="utf-8")
    before = judge.files(tmp_path)
    assert not judge.lost_from_share(tmp_path, before, {})
    (where / "README.md").write_text("new", encoding="utf-8")
    assert judge.lost_from_share(tmp_path, before, {"README.md": "", "x.safetensors": ""})


def test_two_runs_into_one_folder_do_not_mix(server, made, tmp_path):
    words, since = [*cases.BEGIN, *cases.SHORT, "--out", str(tmp_path / "o")], time.monotonic()
    started = [server.start(words), server.start(words)]
    ended = [server.end(one, since) for one in started]
    assert sorted(one.code for one in ended) == [0, 2]
    assert any("another run is writing" in one.said for one in ended)
    assert not judge.half_written(tmp_path / "o")


def test_a_folder_that_cannot_be_written_to_is_refused_in_words(server, made, tmp_path):
    if not bound() and os.geteuid() == 0:
        pytest.skip("root may write anywhere, and setpriv is not at hand")
    (tmp_path / "o").mkdir(mode=0o555)
    for where in (tmp_path / "o", tmp_path / "o" / "new"):
        ended = server.run([*cases.UCE, "--out", str(where)])
        assert ended.code == 2 and "choose a folder that you can write to" in ended.said and not ended.raw


def test_a_command_that_is_stopped_as_its_modules_load_shows_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "eraser_core", "info"], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    time.sleep(0.5)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_disk_that_is_really_full_keeps_the_earlier_result(server, made, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    room = sum(len(data) for data in judge.files(made.earlier).values()) + 60_000  # and not for one more erasure
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(disk)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        where = shutil.copytree(made.earlier, disk / "o")
        before = judge.files(where)
        ended = server.run([*cases.UCE, "--out", str(where)])
        assert ended.code == 2 and "free some space" in ended.said and not ended.raw
        now = judge.files(where)
        for one in (before, now):
            one.pop(folder.RUN, None)  # what was asked last, whatever became of it
        assert now == before
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_two_hundred_kills(campaign, server, made, tmp_path_factory):
    began, found = time.monotonic(), []
    base = tmp_path_factory.mktemp("comfyui")
    made.with_model(server)
    with Server(tmp_path_factory.mktemp("host logs"), "--host", str(base)) as host:
        nodes = Campaign(host, [cases.training(base)], base / "runs", SEED)
        parts = (campaign.kills(ENGINE), nodes.kills(NODE), campaign.others(), nodes.others())
        for said, verdict in (one for part in parts for one in part):
            print(said, "->", verdict.end, verdict.faults or "")
            found.append((said, verdict))
    table = rows(verdict for _, verdict in found)
    facts = {"seed": SEED, "seconds": time.monotonic() - began, "cores": os.cpu_count(), "rows": table}
    write_json(OUT / "kills.json", {**facts, "runs": [{"what": said, **vars(verdict)} for said, verdict in found]})
    assert not [(said, verdict.faults) for said, verdict in found if verdict.faults]
