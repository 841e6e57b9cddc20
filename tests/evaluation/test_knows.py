"""Does the model know the concept? The pocket's judge, CLIP's verdict, and the warning before erasing; categories."""

from __future__ import annotations

import json

import pytest
import torch

from eraser_core.__main__ import main
from eraser_core.erasure import load_erasure
from eraser_core.errors import RequestError
from eraser_core.evaluation.examiner import Examiner
from eraser_core.evaluation.knows import known_to_clip, known_to_judge, quick_look
from eraser_core.evaluation.pocket.tasks import category_task
from eraser_core.models import Model, open_model
from eraser_core.pocket import load_concepts, load_judge


@pytest.fixture(scope="module")
def pocket() -> Model:
    return open_model("pocket", steps=4)


@pytest.fixture
def ignorant(tiny) -> Model:
    """A model with random weights, and the real judge."""
    return Model(tiny, Examiner(tiny, tiny.decode, load_judge(), guidance=3.0, steps=2), load_concepts())


def test_the_judge_knows_what_is_drawn_and_what_was_never_shown(pocket):
    church, tent = known_to_judge(pocket, "a church", 4), known_to_judge(pocket, "tent", 4)
    assert church.concept == "church" and church.known and church.cells["accuracy"].value >= 0.75
    assert not tent.known and tent.cells["accuracy"].value == 0
    with pytest.raises(RequestError, match="nothing that the judge knows"):
        known_to_judge(pocket, "a spaceport", 1)


def test_a_style_has_the_slides_three_columns_and_a_category_its_rate(pocket):
    ink, animal = known_to_judge(pocket, "ink", 3), known_to_judge(pocket, "animal", 4)
    assert list(ink.cells) == ["Content & Artist", "Artist", "Content"] and ink.known
    assert animal.known and animal.cells["category rate above .5"].n == 4


def test_a_model_with_random_weights_knows_nothing(ignorant):
    for name in ("church", "ink", "animal"):
        assert not known_to_judge(ignorant, name, 4).known, name


class Scores:
    """Scores in the order of asking: content and artist, artist, content; `own` first, then the artist's."""

    def __init__(self, *towards: float):
        self.towards = list(towards)

    def columns(self, images, texts):
        value = self.towards.pop(0)
        return {name: value + torch.arange(len(images)) / 100 for name in texts}


class Pictures:
    """A model whose pictures nobody looks at: `Scores` above scores by the order of asking alone."""

    def __init__(self):
        self.examiner = self

    def images(self, prompts, indices):
        return torch.zeros(len(prompts), 3, 8, 8)


def test_by_clip_naming_the_artist_must_move_the_picture():
    for towards, known in (((30.0, 28.0, 20.0), True), ((20.0, 28.0, 20.0), False), ((18.0, 28.0, 20.0), False)):
        found = known_to_clip(Pictures(), Scores(*towards), "Kilian Eng", 4)
        assert found.known == known and found.cells["Content"].value == pytest.approx(20.015)


QUICK = ["--iterations", "1", "--batch", "2", "--pool-size", "4", "--per-trajectory", "2", "--sampler-steps", "2"]


def test_erase_warns_of_a_concept_that_the_model_does_not_know(ignorant, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("eraser_core.commands.erase.opened", lambda *_: ignorant)
    words = ["erase", "--concept", "church", "--method", "naive", *QUICK, "--images", "0", "--out"]
    assert main([*words, str(tmp_path / "a")]) == 0
    assert "hardly knows 'church': 0 of 4 pictures" in caplog.text
    caplog.clear()
    assert main([*words, str(tmp_path / "b"), "--no-check"]) == 0
    assert "hardly knows" not in caplog.text


def test_nothing_is_said_of_a_concept_that_it_knows(pocket):
    seen = quick_look(pocket, "church")
    assert seen.n == 4 and seen.hits >= 3
    assert (
        quick_look(Model(pocket.denoiser, Examiner(pocket.denoiser, None, None, guidance=1, steps=1), None), "x")
        is None
    )


def test_a_category_is_erased_by_its_word_and_members_and_keeps_others(pocket):
    task = category_task(pocket.concepts, pocket.denoiser, "animal")
    (target,) = task.request.targets
    members = {c.phrase for c in pocket.concepts.members("animal")}
    assert target.concept == "an animal" and set(target.synonyms) == members
    assert target.anchor in pocket.concepts.categories.values() and target.anchor != "an animal"
    assert task.request.retain and not set(task.request.retain) & members
    used = {c_e for c_e, _ in target.pairs()}
    scored = {p for c in pocket.concepts.members("animal") for p in pocket.concepts.prompts(c.phrase, scoring=True)}
    assert not used & scored


def test_a_category_goes_from_erasing_to_its_table(tmp_path, capsys):
    out = tmp_path / "animal"
    assert main(["erase", "--concept", "animal", "--method", "uce", "--images", "1", "--out", str(out)]) == 0
    path = out / "animal.safetensors"
    assert json.loads(load_erasure(path).facts["erasure.targets"]) == ["an animal"]
    assert main(["score", "--erasure", str(path)]) == 2
    assert "benchmark pocket" in capsys.readouterr().err
    quick = ["--images", "1", "--classes", "2", "--steps", "2", "--maps", "0", "--out", str(tmp_path / "suite")]
    assert main(["benchmark", "pocket", "--erasure", str(path), *quick]) == 0
    tables = json.loads((tmp_path / "suite" / "tables.json").read_text(encoding="utf-8"))["tables"]
    (table,) = [t for t in tables if t["title"] == "A category, in place of nudity"]
    rates = {row["name"]: row["cells"]["CR-0.5"]["value"] for row in table["rows"] if not row["quoted"]}
    assert rates["animal: animal"] < rates["animal: untouched"]


def test_the_command_prints_its_answers(capsys, caplog):
    assert main(["knows", "--concept", "church", "tent", "--images", "2", "--steps", "4"]) == 0
    printed = capsys.readouterr().out
    assert "| church | yes |" in printed and "| tent | no |" in printed and "n = 2" in printed
    assert main(["knows", "--concept", "church", "gutar", "--images", "1", "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    assert "| church |" in printed and "gutar" not in printed
    assert "did you mean 'guitar'" in caplog.text
    assert main(["knows", "--concept", "gutar"]) == 2 and "did you mean 'guitar'" in capsys.readouterr().err
    assert main(["knows"]) == 2 and "name what to ask for" in capsys.readouterr().err
