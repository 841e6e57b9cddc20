"""On a checkpoint of SD's layout, which has no judge and no drawings: everything runs, and what cannot be said is not said."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_checkpoints import write_checkpoint

from eraser_core import erase, open_model
from eraser_core.audit import audit
from eraser_core.backends.stored_model import Loading
from eraser_core.evaluation.attacks import context, fine_tuning, inversion, negative, search, settings, token
from eraser_core.evaluation.attacks.registry import ATTACKS


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_every_attack_runs_without_a_judge(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = ((context, "ITERATIONS"), (token, "ITERATIONS"), (fine_tuning, "STEPS"), (negative, "NEIGHBOURS"))
    for module, name in (*short, (search, "ROUNDS")):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(inversion, "STEPS", 2)
    monkeypatch.setattr(settings, "GUIDANCE", (1.0,))
    write_checkpoint(tmp_path / "model.safetensors", family)
    model = open_model(str(tmp_path / "model.safetensors"), steps=2, loading=Loading(size=64))
    erasure = erase(model, "church", "mosque", ["dog", "tree"], method="uce", settings={"preset": "current"}).erasure
    found = audit(model, erasure, tuple(ATTACKS), out=tmp_path / "out", images=1)
    left = {done.name for done in found.attacks if done.left_out}
    assert left == {"keys"} and len(found.attacks) == len(ATTACKS)
    assert all(row.erased is row.unknown is None for done in found.attacks for row in done.rows)
    assert "One map of the text space" in found.of("algebra").rows[0].said
    said = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "has no judge" in said
