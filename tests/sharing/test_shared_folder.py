"""A shared folder takes its place whole; an earlier one goes only then, and nothing else ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eraser_core.errors import EraserError, OutputError
from eraser_core.sharing import folder
from eraser_core.sharing.card import Wishes
from eraser_core.sharing.share import share


def test_a_folder_in_use_is_kept(run, tmp_path):
    out = tmp_path / "shared"
    share(run / "church.safetensors", out)
    with pytest.raises(OutputError, match="in use"):
        share(run / "church.safetensors", out)
    (out / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match=r"thesis\.txt"):
        share(run / "church.safetensors", out, force=True)
    (out / "thesis.txt").unlink()
    (out / "README.md").write_text("# Mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"README\.md"):
        share(run / "church.safetensors", out, force=True)
    with pytest.raises(OutputError, match="is a file"):
        share(run / "church.safetensors", out / "README.md")
    with pytest.raises(OutputError, match="cannot write"):
        share(run / "church.safetensors", out / "README.md" / "below")


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("broken", ["", "README.md", "renamed"])
def test_an_earlier_folder_goes_only_when_the_new_one_is_whole(run, tmp_path, monkeypatch, at_once, broken):
    """On systems where two folders can change places in one step, and where they cannot."""
    out = tmp_path / "shared"
    share(run / "church.safetensors", out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    if not at_once:
        monkeypatch.setattr(folder, "swapped", lambda one, other: False)
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if broken and (target.name == broken or (broken == "renamed" and self.name == ".shared.new.part")):
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    fails = bool(broken) and not (at_once and broken == "renamed")
    try:
        share(run / "church.safetensors", out, Wishes(author="Another"), force=True)
    except EraserError as error:
        assert fails and "cannot write" in str(error)
    else:
        assert not fails
    now = {p.name: p.read_bytes() for p in out.iterdir()}
    assert (now == before) == fails and ("Another" in now["README.md"].decode()) != fails
    assert {p.name for p in tmp_path.iterdir()} == {"run", "shared"}


def test_a_kill_between_two_renames_is_put_right_by_the_next_run(run, tmp_path):
    out = tmp_path / "shared"
    share(run / "church.safetensors", out, Wishes(author="First"))
    out.rename(tmp_path / ".shared.earlier.part")
    (tmp_path / ".shared.new.part").mkdir()
    with pytest.raises(OutputError, match="in use"):
        share(run / "church.safetensors", out)
    assert "First" in (out / "README.md").read_text(encoding="utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"run", "shared"}


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links")
def test_a_link_to_a_folder_stays_one(run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for force in (False, True):
        share(run / "church.safetensors", tmp_path / "link", force=force)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "README.md").is_file()


def test_two_at_once_do_not_mix(run, tmp_path):
    with folder.held(tmp_path / "shared"), pytest.raises(OutputError, match="another run"):
        share(run / "church.safetensors", tmp_path / "shared")
