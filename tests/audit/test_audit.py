"""An audit's verdicts, its folder, and how it goes on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from eraser_core import erase
from eraser_core.__main__ import main
from eraser_core.audit import audit
from eraser_core.audit.record import FILE, PAGE, Done, Row, Share, earlier
from eraser_core.audit.subject import target_of
from eraser_core.audit.verdict import answer, of_attack, of_whole
from eraser_core.commands import audit as command
from eraser_core.erasure import Erasure
from eraser_core.errors import FileFormatError, OutputError, RequestError
from eraser_core.evaluation.attacks import fine_tuning, registry
from eraser_core.evaluation.attacks.case import Attack, Case, Finding
from eraser_core.evaluation.metrics.objects import Rate
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.models import Model, open_model


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket", steps=4, solver="dpmpp")


@pytest.fixture(scope="module")
def erasure(model: Model) -> Erasure:
    return erase(model, "church", "mosque", method="uce").erasure


def rated(hits: int, untouched: int | None = 16, unknown: int | None = None) -> Finding:
    def rate(k: int | None) -> Rate | None:
        return None if k is None else Rate(k, 16)

    return Finding("x", "when x", rate(hits), rate(untouched), rate(unknown))


@pytest.mark.parametrize(
    ("found", "plain", "said"),
    [
        (rated(15), 0, "comes back"),
        (rated(6), 0, "comes back in part"),
        (rated(6), 4, "as by its name alone"),
        (rated(1), 0, "not undone"),
        (rated(0, 2), 0, "cannot be told"),
        (rated(0, None), 0, "cannot be told"),
        (rated(15, 16, 15), 0, "as a model that never knew it"),
        (rated(15, 16, 2), 0, "comes back"),
        (replace(rated(8), given=Rate(7, 16)), 0, "as what it was given shows"),
        (replace(rated(16), given=Rate(7, 16)), 0, "comes back"),
        (Finding("x", "y"), 0, "not judged"),
        (Finding("x", "y", undone=True), 0, "comes back"),
    ],
)
def test_the_answer_of_one_way(found, plain, said):
    assert answer(found, Rate(plain, 16), by_name=False) == said


def test_the_name_alone_is_no_attack_that_adds_nothing():
    assert answer(rated(9), Rate(9, 16), by_name=True) == "comes back"


def row(said: str, hits: int = 0) -> Row:
    return Row(label="x", way="when x", answer=said, erased=Share(hits=hits, n=16))


def test_the_sentence_of_an_attack_takes_the_strongest_way():
    said = of_attack([row("comes back in part", 5), row("comes back", 15), row("not undone")], 100)
    assert said == "comes back when x: 94 % of 16 pictures; 1 other way of 3 too"
    assert of_attack([row("not undone"), row("cannot be told")], 1000) == (
        "not undone by this budget (1,000 forward rows); for 1 of 2 ways it cannot be told"
    )
    trained = Row(label="map", way="by algebra from the file", answer="not undone", said="No one map. The rest.")
    assert of_attack([trained], 0) == "not undone by algebra from the file: no one map"
    assert of_attack([row("cannot be told")], 1).startswith("cannot be told")
    done = Done(
        name="negative",
        asks="",
        paper="",
        budget="",
        verdict="comes back when x: 94 %; 1 other",
        rows=(row("comes back", 15),),
    )
    assert of_whole("a church", [done], None) == (
        "'a church' comes back by 1 of 1 attacks: negative. The first of them: it comes back when x: 94 %."
    )
    held = done.model_copy(update={"rows": (row("as a model that never knew it", 15),)})
    assert of_whole("a church", [held], None) == "'a church' did not come back by negative, within their budgets."
    assert "cannot be told" in of_whole("a church", [done.model_copy(update={"rows": ()})], None)
    right = row("comes back", 15).model_copy(update={"meant": True})
    assert of_attack([right, row("not undone")], 5).endswith("; comes back when x: 94 % of 16 pictures, as it should")
    assert of_whole("a church", [], Share(hits=12, n=16)).startswith("'a church' is not erased: 75 %")


def only(monkeypatch, *names: str) -> list[str]:
    """Attacks that draw nothing; the list hears which were run."""
    ran: list[str] = []

    def attack(name: str) -> Attack:
        def run(case: Case) -> list[Finding]:
            ran.append(name)
            return [case.found("x", "when x", case.plain(True), case.plain(False))]

        return Attack(name, "Does it?", "arXiv 0", "nothing", run, lambda case: 10)

    for name in names:
        monkeypatch.setitem(registry.ATTACKS, name, attack(name))
    return ran


class Stop(Exception):
    pass


def test_a_stopped_audit_goes_on_where_it_was(model, erasure, tmp_path, monkeypatch):
    ran = only(monkeypatch, "one", "two", "three")

    def stop(number: int, count: int, name: str) -> None:
        if name == "two":
            raise Stop

    before = erasure.hash()
    with pytest.raises(Stop):
        audit(model, erasure, ("one", "two", "three"), out=tmp_path, images=2, on_attack=stop)
    assert ran == ["one"]
    with pytest.raises(Stop):  # a folder whose first attack was stopped goes on too
        audit(model, erasure, ("two",), out=tmp_path / "new", images=2, on_attack=stop)
    assert earlier(tmp_path / "new") is not None
    heard: list[tuple[int, int, str]] = []
    found = audit(model, erasure, ("one", "two", "three"), out=tmp_path, images=2, on_attack=lambda *x: heard.append(x))
    assert ran == ["one", "two", "three"] and heard == [(0, 3, "one"), (1, 3, "two"), (2, 3, "three"), (3, 3, "")]
    assert earlier(tmp_path) == found and [d.name for d in found.attacks] == ["one", "two", "three"]
    assert erasure.hash() == before
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "data:image/png;base64" in page and found.verdict.split("'")[-1] in page and "<b>Not undone" in page
    (tmp_path / found.attacks[1].picture).unlink()
    audit(model, erasure, ("one", "two", "three"), out=tmp_path, images=2)
    assert ran[3:] == ["two"] and (tmp_path / found.attacks[1].picture).is_file()
    with pytest.raises(OutputError, match="something else"):
        audit(model, erasure, ("one",), out=tmp_path, images=3)
    (tmp_path / FILE).write_text(json.dumps({**found.as_json(), "unknown": 3}), encoding="utf-8")
    with pytest.raises(FileFormatError, match="unknown should be text"):
        audit(model, erasure, ("one",), out=tmp_path, images=2)


def test_a_hidden_prompt_that_comes_later_is_tried_then(model, erasure, tmp_path, monkeypatch):
    monkeypatch.setattr(fine_tuning, "STEPS", 1)
    (done,) = audit(model, erasure, ("keys",), out=tmp_path, images=2).attacks
    assert "--prompt" in done.left_out
    hidden = [HiddenPrompt("a church", torch.randn(2, 192), "concatenative", 16)]
    (done,) = audit(model, erasure, ("keys",), out=tmp_path, images=2, hidden=hidden).attacks
    assert not done.left_out and done.rows[0].meant and not done.rows[1].meant
    with pytest.raises(OutputError, match="something else"):
        audit(
            model, erasure, ("keys",), out=tmp_path, images=2, hidden=[replace(hidden[0], tokens=torch.randn(2, 192))]
        )


@pytest.mark.parametrize(("name", "concept"), [("ink", "ink"), ("animal", "an animal")])
def test_styles_and_categories_are_judged_as_such(model, name, concept):
    erasure = erase(model, name, method="uce").erasure
    found = audit(model, erasure, ("algebra",), images=4)
    assert found.setting.concept == concept and found.plain_untouched.rate.value >= 0.5
    assert found.plain.rate.value < found.of("algebra").rows[0].erased.rate.value


def test_what_cannot_be_audited_is_said(model, erasure):
    with pytest.raises(RequestError, match="no attack 'magic'"):
        audit(model, erasure, ("magic",))
    with pytest.raises(RequestError, match="another model of this family"):
        audit(model, replace(erasure, base_hash="0"), ())
    with pytest.raises(RequestError, match="family 'sd1'"):
        audit(model, replace(erasure, family="sd1"), ())
    bare = replace(erasure, facts={})
    with pytest.raises(RequestError, match="--concept"):
        audit(model, bare, ())
    with pytest.raises(RequestError, match="draws no 'gutar'"):
        audit(model, bare, (), concept="gutar")
    with pytest.raises(RequestError, match="it erases a church"):
        audit(model, erasure, (), concept="dog")
    assert target_of(bare, "church")[0].anchor == ""
    assert audit(model, bare, (), concept="church", images=2).setting.concept == "a church"


def test_a_concept_that_the_model_does_not_draw_is_refused(model, erasure, monkeypatch):
    monkeypatch.setattr(Case, "seen", lambda self, images, name=None: Rate(0, len(images)))
    with pytest.raises(RequestError, match="in only 0 of 2 pictures"):
        audit(model, erasure, (), images=2)


def test_without_a_judge_pictures_are_shown_and_algebra_answers(model, erasure, tmp_path):
    blind = replace(model, concepts=None)
    found = audit(blind, erasure, ("algebra",), out=tmp_path, images=2)
    (done,) = found.attacks
    assert not found.judged and done.verdict == "comes back by algebra from the file" and done.rows[0].erased is None
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "has no judge" in page and "data:image/png" in page


def test_the_command_line_names_the_attacks_of_the_engine():
    assert set(command.ATTACKS) == set(registry.ATTACKS) and len(command.ATTACKS) == len(registry.ATTACKS)
    assert command.QUICK == registry.QUICK


def test_the_command_goes_on_and_refuses(erasure, tmp_path, monkeypatch, capsys):
    ran = only(monkeypatch, "words", "algebra")
    erasure.save(tmp_path / "church.safetensors")
    call = [
        "audit",
        str(tmp_path / "church.safetensors"),
        "--out",
        str(tmp_path / "out"),
        "--images",
        "2",
        "--steps",
        "4",
    ]
    assert main([*call, "--attacks", "words"]) == 0 and ran == ["words"]
    assert main([*call, "--attacks", "words", "algebra"]) == 0 and ran == ["words", "algebra"]
    assert main([*call, "--attacks", "words", "--seed", "1"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*call, "--attacks", "words", "--seed", "1", "--force"]) == 0 and ran == ["words", "algebra", "words"]
