"""Requests say what is wrong with them before anything runs."""

import pytest

from eraser_core.errors import RequestError
from eraser_core.request import Request, Target, fill, retain_prompts


def test_concept_and_anchor_go_into_the_same_templates():
    target = Target("a church", "a castle", ("a chapel",), ("{}", "a drawing of {}"))
    assert target.pairs() == [
        ("a church", "a castle"),
        ("a drawing of a church", "a drawing of a castle"),
        ("a chapel", "a castle"),
        ("a drawing of a chapel", "a drawing of a castle"),
    ]


def test_an_empty_anchor_is_the_neutral_prompt_in_every_template():
    assert Target("a church", "", templates=("a drawing of {}",)).pairs() == [("a drawing of a church", "")]


@pytest.mark.parametrize("concept", ["", "   "])
def test_an_empty_concept_is_refused(concept):
    with pytest.raises(RequestError, match="--concept"):
        Target(concept, "a castle")


@pytest.mark.parametrize("anchor", ["a church", "A Church ", "a chapel"])
def test_an_anchor_that_is_the_concept_is_refused(anchor):
    with pytest.raises(RequestError, match="the concept itself"):
        Target("a church", anchor, ("a chapel",))


def test_a_template_without_a_place_for_the_concept_is_refused():
    with pytest.raises(RequestError, match="template"):
        Target("a church", "a castle", templates=("a photo",))


def test_a_retain_set_that_holds_the_concept_is_refused():
    target = Target("a church", "a castle", templates=("a drawing of {}",))
    for prompt in ("a church", "a drawing of a church"):
        with pytest.raises(RequestError, match="retain set"):
            Request((target,), (prompt,))
    Request((target,), ("a castle",))


def test_a_request_survives_its_facts():
    request = Request((Target("a", "b", ("c",), ("{} d",)),), ("e",), 7)
    assert Request.from_facts(request.facts()) == request


def test_retain_prompts_come_once_each():
    assert retain_prompts(("x", "x", "y"), ("{}", "a {}")) == ("x", "a x", "y", "a y")
    assert fill("a  {} ", "b") == "a b"
