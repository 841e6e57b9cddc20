"""Nobody names what a real model should keep: lists by kind, and the nearest of them as the anchor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_checkpoints import write_checkpoint

from eraser_core import erase, open_model
from eraser_core.__main__ import main
from eraser_core.erasure import load_erasure
from eraser_core.request import Target
from eraser_core.retain_lists import KINDS, LISTS, guess, kept, words_of

KINDS_OF = {
    "Kilian Eng": "style",
    "van gogh": "style",
    "the style of manga": "style",
    "cubism": "style",
    "a beach": "scene",
    "city skyline": "scene",
    "church": "object",
    "French horn": "object",
    "golden retriever": "object",
}


@pytest.mark.parametrize("concept", KINDS_OF)
def test_a_kind_is_guessed_by_the_words(concept: str) -> None:
    assert guess(concept)[0] == KINDS_OF[concept]


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_names_nothing_twice_and_not_what_is_erased(kind) -> None:
    words = words_of(kind)
    assert len({word.lower() for word in words}) == len(words) >= 40 and all(word.isascii() for word in words)
    assert kept([words[0]], kind) == words[1:] and kept(["zzz"], kind) == words
    assert (Path(__file__).parents[2] / "eraser_core" / "retain_lists" / f"{LISTS[kind]}.txt").is_file()


def test_a_part_of_a_name_is_the_same_concept_and_another_word_is_not() -> None:
    assert "Vincent van Gogh" not in kept(["van Gogh"], "style") and "car" not in kept(["a sports car"], "object")
    assert "cat" in kept(["caterpillar"], "object")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "model.safetensors", "sd1")


def erased(model: Path, out: Path, *words: str) -> tuple[dict, dict]:
    """The first target, and the request."""
    call = ["erase", "--model", str(model), "--method", "uce", "--images", "0", "--out", str(out), *words]
    assert main(call) == 0
    (file,) = out.glob("*.safetensors")
    request = json.loads(load_erasure(file).facts["erasure.request"])
    return request["targets"][0], request


def test_the_list_is_kept_and_its_nearest_word_is_drawn_and_both_are_said(model, tmp_path, caplog) -> None:
    with caplog.at_level("INFO"):
        target, request = erased(model, tmp_path / "a", "--concept", "church")
    assert tuple(request["retain"]) == kept(["church"], "object") and "church" not in request["retain"]
    assert target["anchor"] in request["retain"]
    assert "'church' is taken for an object" in caplog.text and f"drawing {target['anchor']!r}" in caplog.text
    target, request = erased(model, tmp_path / "b", "--concept", "church", "--kind", "scene")
    assert tuple(request["retain"]) == words_of("scene") and target["anchor"] in words_of("scene")


def test_a_bare_retain_keeps_nothing_and_still_has_an_anchor(model, tmp_path) -> None:
    target, request = erased(model, tmp_path / "a", "--concept", "Kilian Eng", "--retain")
    assert request["retain"] == [] and target["anchor"] in words_of("style")


def test_words_of_ones_own_replace_the_list(model, tmp_path) -> None:
    target, request = erased(model, tmp_path / "a", "--concept", "church", "--retain", "castle", "a dog")
    assert request["retain"] == ["castle", "a dog"] and target["anchor"] in request["retain"]
    target, _ = erased(model, tmp_path / "b", "--concept", "church", "--anchor", "a wall", "--retain", "castle")
    assert target["anchor"] == "a wall"


def test_the_call_from_python_keeps_what_the_command_keeps(model, tmp_path) -> None:
    opened = open_model(str(model))
    for words, asked in (
        (["--concept", "church"], {"concepts": "church"}),
        (["--concept", "church", "--retain"], {"concepts": "church", "retain": ()}),
        (["--concept", "church", "Kilian Eng"], {"concepts": ["church", "Kilian Eng"]}),
        (["--concept", "church", "--kind", "scene"], {"concepts": "church", "kind": "scene"}),
    ):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        erased(model, out, *words)
        (file,) = out.glob("*.safetensors")
        ours = erase(opened, method="uce", **asked).erasure
        assert ours.facts["erasure.request"] == load_erasure(file).facts["erasure.request"]
        assert ours.hash() == load_erasure(file).hash()


def test_a_style_is_erased_in_prompts_of_styles_and_a_thing_in_prompts_of_things(model, tmp_path) -> None:
    target, _ = erased(model, tmp_path / "a", "--concept", "church", "Kilian Eng", "--anchor", "castle", "Claude Monet")
    request = json.loads(load_erasure(next((tmp_path / "a").glob("*.safetensors"))).facts["erasure.request"])
    thing, style = (Target(t["concept"], t["anchor"], (), tuple(t["templates"])) for t in request["targets"])
    assert ("a photo of church", "a photo of castle") in thing.pairs()
    assert ("a painting by Kilian Eng", "a painting by Claude Monet") in style.pairs()
    assert not any("photo" in prompt for pair in style.pairs() for prompt in pair)
    assert not any(" by " in prompt or "style" in prompt for pair in thing.pairs() for prompt in pair)
    target, _ = erased(model, tmp_path / "b", "--concept", "banksy", "--kind", "style")
    assert "a painting by {}" in target["templates"]
