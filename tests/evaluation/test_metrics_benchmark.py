"""The attribution benchmark: its smoke run on a narrow model with random weights, and its verdicts on made-up rows."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from eraser_core.evaluation.examiner import Examiner
from eraser_core.models import Model
from eraser_core.pocket import load_concepts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module("attribution")
    for name in ("attribution", "common"):
        sys.modules.pop(name, None)


def test_the_smoke_run_measures_every_condition(benchmark, tiny, monkeypatch, tmp_path, capsys):
    examiner = Examiner(tiny, tiny.decode, None, guidance=3.0, steps=4)
    monkeypatch.setattr(benchmark.common, "pocket", lambda: Model(tiny, examiner, load_concepts()))
    monkeypatch.setattr(sys, "argv", ["attribution.py", "--smoke"])
    assert benchmark.main() == 0
    out = tmp_path / "out" / "benchmarks"
    rows = json.loads((out / "attribution_smoke.json").read_text(encoding="utf-8"))
    assert len(rows) == 2
    for row in rows:
        for name in (
            "untouched_word",
            "untouched_other",
            "erased_word",
            "hidden_word",
            "hidden_other",
            "hidden_p",
            "area",
        ):
            assert 0 <= row[name] <= 1, name
        assert row["n"] == 2 and row["anchor"] and row["weights"] == tiny.base_hash[:16]
    (similar,) = json.loads((out / "attribution_smoke_cosines.json").read_text(encoding="utf-8"))
    found = {(e["condition"], e["tokens"]): e for e in similar["entries"]}
    assert set(found) == {
        ("untouched", "word"),
        ("kpop", "word"),
        ("kpop, with p", "word"),
        ("kpop, with p", "p"),
        ("esd", "word"),
    }
    assert len(found["untouched", "word"]["curves"]) == len(similar["blocks"]) and len(similar["timesteps"]) == 3
    assert (out / "attribution_smoke.png").is_file() and len(list(out.glob("*.svg"))) == 1
    printed = capsys.readouterr().out
    assert (
        "sign tests over objects" in printed
        and "| untouched | the word's | the other word's, before | 2 |" in printed
        and "kpop, with p" in printed
    )


def test_the_other_word_stands_before_and_after(benchmark, tiny):
    model = Model(tiny, Examiner(tiny, tiny.decode, None, guidance=3.0, steps=4), load_concepts())
    asked = benchmark.questions(model, model.concepts.get("gas pump"), 6)
    assert [a.place for a in asked] == ["before", "after"] * 3
    for a in asked:
        assert a.word == "gas pump" and (a.prompt.index(a.other) < a.prompt.index(a.word)) == (a.place == "before")


def test_objects_have_noises_of_their_own_and_keep_them(benchmark, tiny):
    model = Model(tiny, Examiner(tiny, tiny.decode, None, guidance=3.0, steps=4), load_concepts())
    dog, cat = (benchmark.noise_of(model, model.concepts.get(name), 2, 0) for name in ("dog", "cat"))
    assert not (dog == cat).any() and (dog[:1] == benchmark.noise_of(model, model.concepts.get("dog"), 1, 0)).all()


def made_up(word: float, other: float, p: float = 0.4) -> dict[str, float]:
    names = [f"{c}_%s{end}" for c in ("untouched", "erased", "hidden") for end in ("", "_before", "_after")]
    return {n % "word": word for n in names} | {n % "other": other for n in names} | {"area": 0.4, "hidden_p": p}


def test_a_null_result_is_printed_as_one(benchmark):
    rows = [made_up(0.6, 0.5 + 0.2 * (i % 2)) for i in range(30)]
    assert {line["verdict"] for line in benchmark.verdicts(rows)} == {"no difference shown"}
    clear = benchmark.verdicts([made_up(0.6, 0.5 + 0.2 * (i % 10 == 0)) for i in range(30)])
    assert clear[0]["verdict"] == "more on the drawing" and (clear[0]["higher"], clear[0]["lower"]) == (27, 3)
    against = benchmark.verdicts([made_up(0.5, 0.6)] * 30)
    assert against[0]["verdict"] == "less on the drawing" and against[0]["difference"] == pytest.approx(-0.1)


def test_the_hidden_prompts_map_is_held_against_an_even_one(benchmark):
    for p, said in ((0.5, "more on the drawing"), (0.4, "no difference shown"), (0.3, "less on the drawing")):
        last = benchmark.verdicts([made_up(0.6, 0.6, p)] * 30)[-1]
        assert (last["map"], last["against"], last["verdict"]) == ("p's", "one value everywhere", said)
    additive = [made_up(0.6, 0.6) | {"hidden_p": None}] * 30  # an additive p has no tokens of its own
    assert {line["map"] for line in benchmark.verdicts(additive)} == {"the word's"}
