"""Success rates, the pocket suite's fairness, and the judge's place in them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eraser_core.anchors import nearest
from eraser_core.backends.pocket import load_pocket_denoiser
from eraser_core.errors import RequestError
from eraser_core.evaluation.metrics.objects import Rate, esr, psr, ranks
from eraser_core.evaluation.pocket.scores import untouched
from eraser_core.evaluation.pocket.tasks import object_task, settings_for, style_task
from eraser_core.methods import METHODS
from eraser_core.models import open_model
from eraser_core.pocket import load_concepts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pocket():
    return load_pocket_denoiser()


def test_rates_by_hand():
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [0.0, 0.0, 0.0]])
    rank = ranks(logits, torch.tensor([0, 0, 1]))
    assert rank.tolist() == [0, 2, 2]
    assert (psr(rank).hits, esr(rank).hits, psr(rank, 3).hits) == (1, 2, 3)


def test_wilsons_interval_by_hand():
    low, high = Rate(8, 10).interval()
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert Rate(10, 10).interval()[0] < 0.75


@pytest.mark.parametrize("kind", ["object", "style"])
def test_scoring_never_uses_what_erasing_used(pocket, kind):
    concepts = load_concepts()
    task = object_task(concepts, pocket, "church") if kind == "object" else style_task(concepts, pocket, "ink")
    used = {c_e for target in task.request.targets for c_e, _ in target.pairs()} | set(task.request.retain)
    for name, sheet in task.sheets.items():
        assert not used & {q.prompt for q in sheet}, name
    answers = {q.answer for q in task.sheets["kept"]}
    assert not answers & set(task.retained)
    assert task.concept not in answers and task.anchor not in answers
    indices = [q.index for sheet in task.sheets.values() for q in sheet]
    assert len(set(indices)) == len(indices)


def test_an_anchor_is_chosen_among_what_is_kept(pocket):
    concepts = load_concepts()
    task = object_task(concepts, pocket, "church", retain=["dog", "castle", "banana"])
    assert task.anchor in ("a dog", "a castle", "a banana")
    assert nearest(pocket, "a church", ["a church", "a dog"]) == "a dog"
    with pytest.raises(RequestError, match="no anchor"):
        nearest(pocket, "a church", ["a church"])


def test_a_styles_anchor_is_the_nearest_in_the_prompts_in_which_it_is_erased(pocket):
    """Alone its word is nearest to another style, so what it is asked in decides."""
    concepts = load_concepts()
    task = style_task(concepts, pocket, "ink")
    others, prompts = [s for s in concepts.styles if s != "ink"], task.request.targets[0].templates
    assert task.anchor == nearest(pocket, "ink", others, prompts)
    assert task.anchor != nearest(pocket, "ink", others, ["{} style"])


def test_the_untouched_model_draws_what_it_is_asked_and_a_destroyed_one_does_not():
    from eraser_core.erasure import FrozenEdit

    model = open_model("pocket")
    task = object_task(model.concepts, model.denoiser, "church", n=12)
    rates = untouched(model.examiner, task)
    assert rates["kept"].value >= 0.6
    generator = torch.Generator().manual_seed(0)
    noise = {k: torch.randn(w.shape, generator=generator) for k, w in model.denoiser.weights("xattn-kv").items()}
    destroyed = psr(model.examiner.ranks(task.sheets["kept"], FrozenEdit(noise)))
    assert destroyed.value <= 0.25


def test_a_style_gets_more_steps_than_an_object_where_the_method_has_steps():
    model = open_model("pocket")
    church, ink = (
        make(model.concepts, model.denoiser, name) for make, name in ((object_task, "church"), (style_task, "ink"))
    )
    known = {name: method.settings.model_fields for name, method in METHODS.items()}
    preset = METHODS["kpop"].configure("pocket", {})
    asked = settings_for([church, ink], known["kpop"])
    assert asked["iterations"] > preset.iterations and asked["pool_size"] > preset.pool_size
    assert settings_for([church], known["kpop"]) == {} and settings_for([ink], known["uce"]) == {}


SHARES = {"esr1", "psr1", "recovery1", "forged1", "n"}
COLUMNS = {
    "pocket_objects": SHARES,
    "pocket_study": SHARES,
    "pocket_styles": SHARES,
    "ablations": SHARES,
    "rates": SHARES - {"recovery1", "forged1"},
    "pool": {"esr1", "psr1", "rows_nograd", "rows_grad", "seconds", "n"},
    "methods": SHARES,
    "overshoot": {"same3", "alone6", "esr1", "psr1", "recovery1"},
    "opening": SHARES | {"kept_with_p1", "kept_with_p1_both", "recovery1_both"},
    "robust": {"esr1", "psr1", "learnt1", "learnt1_strong", "recovery1", "mb", "n"},
    "widths": {"reached", "moved", "concepts"},
    "general": {"setting", "list", "reached", "moved", "esr1", "kept1"},
    "missed": {"missed", "rank", "mb", "esr1", "psr1", "psr1_retained"},
    "doors": {"model", "names", "solve_s", "text_s", "mb", "rank"},
    "memory_flux": {"preset", "tune", "weights_gb", "peak_gb"},
    "cost": {"method", "seconds", "rows_nograd", "rows_grad", "peak_bytes"},
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_benchmark_runs_at_its_smoke_size(name, tmp_path):
    words = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--smoke"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "out" / "benchmarks" / f"{name}_smoke.json").read_text(encoding="utf-8"))
    assert len(rows) >= 2
    assert COLUMNS[name] <= rows[0].keys()


def test_runs_made_side_by_side_become_one_table(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(tmp_path)
    common = importlib.import_module("common")
    one, two = (common.Rows(name, ("concept", "seed")) for name in ("one", "two"))
    one.add({"concept": "dog", "seed": 0, "esr1": 1.0})
    two.add({"concept": "dog", "seed": 0, "esr1": 0.5})
    two.add({"concept": "dog", "seed": 1, "esr1": 0.75})
    one.take(["two"])
    assert [row["esr1"] for row in common.Rows("one", ("concept", "seed")).rows] == [1.0, 0.75]
    assert len(two.rows) == 2


def test_rows_from_before_a_column_was_there_are_read_with_what_they_stand_for(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(tmp_path)
    common = importlib.import_module("common")
    common.Rows("old", ("concept",)).add({"concept": "dog"})
    new = common.Rows("new", ("method", "concept"), since={"method": "kpop"})
    new.take(["old"])
    assert new.has({"method": "kpop", "concept": "dog"}) and not new.has({"method": "uce", "concept": "dog"})
