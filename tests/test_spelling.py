"""What is written like an unknown word is offered, and nothing else."""

from __future__ import annotations

import pytest

from eraser_core.hidden_prompt import HiddenPrompt, pick
from eraser_core.spelling import close, did_you_mean


def test_the_nearest_known_words_are_found_whatever_their_case() -> None:
    known = ["guitar", "Vincent van Gogh", "car", "cart"]
    assert close("gutar", known) == ["guitar"]
    assert close(" vincent van gog ", known) == ["Vincent van Gogh"]
    assert close("zeppelin", known) == [] and close("guitar", []) == []
    assert close("carr", known) == ["car", "cart"] and len(close("carr", [*known, "carp", "carb"])) == 2


def test_the_question_names_them_and_without_one_nothing_is_asked() -> None:
    assert did_you_mean(["car", "cart"]) == "; did you mean 'car' or 'cart'?"
    assert did_you_mean([]) == ""


def test_a_hidden_prompt_is_picked_by_its_concept_with_or_without_its_article(hidden: list[HiddenPrompt]) -> None:
    assert (
        pick(hidden, "guitar") is hidden[0]
        and pick(hidden, " A Dog") is hidden[1]
        and pick(hidden[:1], "") is hidden[0]
    )
    for wanted, said in (
        ("gutar", r"a guitar, a dog; did you mean 'guitar'\?$"),
        ("boat", "a dog$"),
        ("", "name one$"),
    ):
        with pytest.raises(ValueError, match=said):
            pick(hidden, wanted)


@pytest.fixture
def hidden() -> list[HiddenPrompt]:
    import torch

    return [HiddenPrompt(f"a {name}", torch.ones(1, 4), "concatenative", 16) for name in ("guitar", "dog")]
