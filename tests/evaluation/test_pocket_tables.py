"""The pocket suite's pictures, and its tables from scores made up by hand; nothing is drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from made_up_erasures import subject
from made_up_tables import by_title, rows_of, write

from eraser_core.evaluation.pocket.suite import PocketSuite
from eraser_core.evaluation.suites.manifest import make_plan
from eraser_core.evaluation.suites.results import Results
from eraser_core.pocket import load_concepts, load_judge


def encode(texts):
    """No text is looked at: scores are written by hand."""
    raise AssertionError(texts)


def test_the_pocket_suite_asks_for_a_category_by_members_and_word_and_calls_it_no_ner(tmp_path):
    concepts, judge = load_concepts(), load_judge()
    # Another erasure's dog is a member of the category: erased with it, and kept by neither.
    dogs = subject("uce dog", ["a dog"], anchors=["a gear"])
    subjects = [subject("uce animal", ["an animal"], anchors=["a vehicle"], retained=["a church"]), dogs]
    suite = PocketSuite(concepts, judge, encode, subjects, images=2, classes=None)
    plan = make_plan(suite, subjects, batch=64)
    items = {item.index: item for item in plan.items}
    assert len(items) == len(plan.items)  # no number twice
    members = [item for item in plan.items if item.part == "members"]
    assert len(members) == 2 * 13 and {item.concept for item in members} == {"animal"}
    assert {item.word for item in plan.items if item.part == "word"} == {"animal"}
    asked = {item.concept for item in plan.items if item.part == "objects"}
    assert asked & {c.name for c in concepts.members("animal")} == {"dog"}
    dog, church = (judge.objects.index(name) for name in ("dog", "church"))

    def drawn_as(erased_by, _hidden, item):
        row = torch.zeros(len(judge.objects))
        right = dog if item.concept == "animal" else judge.objects.index(item.concept)
        row[church if erased_by is not None and item.concept == "animal" else right] = 50
        return row.tolist()

    features = lambda _s, _h, item: [float(item.index % 7), float(item.index % 5)]  # noqa: E731
    write(plan, tmp_path, "judge", objects=drawn_as, features=features)
    tables = suite.tables(Results(plan, tmp_path, {}))
    (table,) = [t for t in tables if t.title == "A category, in place of nudity"]
    found = rows_of(table)
    assert found["animal: untouched"].cells["CR-0.8"].value == 1
    assert found["animal: uce animal"].cells["CR-0.3"].value == 0
    assert found["animal: uce animal"].cells["CR-0.5 by the word"].n == 8
    assert found["animal: uce animal"].cells["PSR-1"].value == 1
    kept = {item.concept for item in plan.items if item.part == "objects"} - {"dog", "church"}
    assert found["animal: uce animal"].cells["PSR-1"].n == 2 * len(kept)
    assert found["animal: uce animal"].cells["judge-FID"].value == pytest.approx(0, abs=1e-6)
    ours = [*table.columns, *found]
    assert not any("NER" in said or said == "FID" for said in ours)


def test_without_erasures_the_pocket_suite_scores_the_untouched_model(tmp_path):
    concepts, judge = load_concepts(), load_judge()
    suite = PocketSuite(concepts, judge, encode, [], images=1, classes=3)
    plan = make_plan(suite, [], batch=64)
    parts = {item.part for item in plan.items}
    assert {"objects", "styles", "style alone"} <= parts and not parts & {"members", "word"}
    zeros = {"objects": len(judge.objects), "styles": 6, "features": 4}
    write(plan, tmp_path, "judge", **{k: lambda *_, n=n: [0.0] * n for k, n in zeros.items()})
    tables = by_title(suite.tables(Results(plan, tmp_path, {})))
    assert set(tables) == {"Erasing object-related concepts", "Does the model know the style?"}
    (row,) = rows_of(tables["Erasing object-related concepts"]).values()
    assert row.name == "untouched" and row.cells["ESR-1"] is None and row.cells["PSR-1"].value == 0


def test_styles_are_scored_on_objects_that_no_erasing_used():
    concepts, judge = load_concepts(), load_judge()
    ink = subject("kpop ink", ["ink"], anchors=["fluent"])
    used = [c.phrase for c in concepts.drawn[:40]]
    request = {"targets": [{"concept": "ink", "templates": [f"{phrase} in {{}} style" for phrase in used]}]}
    facts = dict(ink.erasure.facts) | {"erasure.request": json.dumps(request)}
    ink = replace(ink, erasure=replace(ink.erasure, facts=facts))
    suite = PocketSuite(concepts, judge, encode, [ink], images=4, classes=2)
    prompts = [item.prompt for item in suite.items() if item.part == "styles"]
    assert prompts and not any(phrase + " " in p or phrase + "," in p for phrase in used for p in prompts)
    every = [item for item in suite.items() if item.part == "styles"]
    assert {item.concept for item in every} == set(concepts.styles)
    assert not suite.draws(ink, next(item for item in suite.items() if item.part == "objects"))


def test_a_class_keeps_its_noise_whatever_else_is_asked_for():
    concepts, judge = load_concepts(), load_judge()
    few = PocketSuite(concepts, judge, encode, [subject("a", ["church"], anchors=["castle"])], images=1, classes=1)
    many = PocketSuite(concepts, judge, encode, [subject("a", ["dog", "church"], anchors=["cat"])], images=8)
    one, other = ([i.noise_seed(0) for i in s.items() if i.concept == "church"] for s in (few, many))
    assert one == other[:1] and len(set(other)) == 8


def test_judge_clip_stands_beside_the_slides_clip_and_never_under_its_name(tmp_path):
    concepts, judge = load_concepts(), load_judge()
    ink = subject("uce ink", ["ink"], anchors=["fluent"])
    suite = PocketSuite(concepts, judge, encode, [ink], images=2)
    plan = make_plan(suite, [ink], batch=64)
    assert all(item.texts == {"prompt": item.prompt} for item in plan.items)
    zeros = {"objects": len(judge.objects), "styles": 6, "features": 4}
    write(plan, tmp_path, "judge", **{k: lambda *_, n=n: [0.0] * n for k, n in zeros.items()})
    # After erasing, pictures of the style fit their prompts less, and the others as well as before.
    write(plan, tmp_path, "judge-CLIP", prompt=lambda s, _, item: 20.0 if s and item.concept == "ink" else 60.0)
    tables = by_title(suite.tables(Results(plan, tmp_path, {})))
    styles, knows = tables["Erasing artistic styles"], tables["Does the model know the style?"]
    found = rows_of(styles)
    assert found["ink: untouched"].cells["erase judge-CLIP"].value == 60
    assert found["ink: uce ink"].cells["erase judge-CLIP"].value == 20
    assert found["ink: uce ink"].cells["retain judge-CLIP"].value == 60
    assert rows_of(knows)["ink"].cells["Content & Artist, judge-CLIP"].value == 60
    for table in (styles, knows):
        assert not any(column.endswith(" CLIP") or column == "CLIP" for column in table.columns)
        quotes = [str(cell) for row in table.rows if row.quoted for c, cell in row.cells.items() if "judge-CLIP" in c]
        assert quotes and all(cell.startswith("CLIP ") for cell in quotes)
