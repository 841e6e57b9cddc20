"""Does this base model know the concept at all? Asked before erasing it.

The slides' table "CLIP alignment score measured on the original SD model" for artists (content and artist / artist /
content), accuracy before erasing for what a classifier can name, and the judge for the pocket model. What a model does
not know, an erasure cannot take away, and its figures would look perfect.

A judge's or classifier's answer is yes where at least half of the pictures are taken for the concept. CLIP has no such
mark of its own: there the answer is yes where naming the artist moves pictures of the same seeds towards the name, by a
95 % interval of the difference.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..errors import RequestError
from ..models import Model
from ..pocket.concepts import Concept, Concepts
from .examiner import Examiner, Question
from .metrics.classifier import IMAGENETTE, Classifier
from .metrics.objects import Rate, psr
from .metrics.paired import mean_difference
from .pocket.tasks import category_of, questions, style_questions
from .report.quoted import ALIGNMENT, ALIGNMENT_COLUMNS
from .report.tables import Cell, Row, Table, score, share, share_of
from .suites.artists import ALONE, CONTENTS, FORMS

if TYPE_CHECKING:
    from .metrics.alignment import ClipScorer

ENOUGH = 0.5
FIRST_INDEX = 900_000  # the suites' pictures have other numbers
QUICK = 4


@dataclass(frozen=True)
class Known:
    """The answer for one concept, and the figures behind it by column."""

    concept: str
    known: bool
    cells: dict[str, Cell]


def asked(concepts: Concepts, name: str, n: int) -> tuple[Question, ...]:
    """n questions for an object or a style by its name, none of them a prompt that erasing uses."""
    if name in concepts.styles:
        chosen = random.Random(f"knows/{name}").sample(concepts.drawn, len(concepts.drawn))
        return style_questions(concepts, chosen, [(name, name)], n, FIRST_INDEX)
    concept = concepts.find(name)
    if concept is None or concept not in concepts.split("generator", "never-shown"):
        raise RequestError(
            f"{name!r} is nothing that the judge knows: `python -m eraser_core info --model pocket` lists what it does"
            f"{concepts.near(name)}"
        )
    return questions(concepts, [(concept, concept.phrase)], n, FIRST_INDEX)


def quick_look(model: Model, name: str) -> Rate | None:
    """The share of a few pictures of an object or style that the untouched model draws rightly: seconds on a CPU.

    None where no judge is at hand.
    """
    if model.concepts is None or model.examiner.judge is None:
        return None
    return psr(model.examiner.ranks(asked(model.concepts, name, QUICK)))


def enough(rate: Rate) -> bool:
    """Whether a share of right pictures counts as knowing."""
    return rate.value >= ENOUGH


def known_to_judge(model: Model, name: str, n: int) -> Known:
    """An object, style or category of the pocket model, by its judge on n pictures a column."""
    concepts = model.concepts
    if concepts is None:
        raise RequestError("the judge knows the pocket model's pictures alone")
    category = category_of(concepts, name)
    if category is not None:
        return _category(model, concepts, category, n)
    if name in concepts.styles:
        return _style(model.examiner, concepts, name, n)
    found = asked(concepts, name, n)
    rank = model.examiner.ranks(found)
    right = psr(rank)
    return Known(found[0].answer, enough(right), {"accuracy": share(right), "among the first 5": share(psr(rank, 5))})


def _style(examiner: Examiner, concepts: Concepts, style: str, n: int) -> Known:
    """The slides' three columns: objects in the style, the style alone, objects in none."""
    chosen = random.Random(f"knows/{style}").sample(concepts.drawn, len(concepts.drawn))
    both = examiner.ranks(asked(concepts, style, n))
    prompts = concepts.style_prompts(style, scoring=True)
    alone = [Question(prompts[i % len(prompts)], "style", style, FIRST_INDEX + 1000 + i) for i in range(n)]
    content = [_content(concepts, chosen[i % len(chosen)], FIRST_INDEX + 2000 + i) for i in range(n)]
    rates = psr(both), psr(examiner.ranks(alone)), psr(examiner.ranks(content))
    cells: dict[str, Cell] = dict(zip(ALIGNMENT_COLUMNS, map(share, rates), strict=True))
    return Known(style, enough(rates[0]), cells)


def _content(concepts: Concepts, concept: Concept, index: int) -> Question:
    prompt = concepts.scoring.object[index % len(concepts.scoring.object)]
    return Question(prompt.replace("{phrase}", concept.phrase), "object", concept.name, index)


def _category(model: Model, concepts: Concepts, category: str, n: int) -> Known:
    judge = model.examiner.judge
    if judge is None:
        raise RequestError("no judge is at hand for this model")
    members = concepts.members(category)
    asked = questions(concepts, [(c, c.phrase) for c in members], n, FIRST_INDEX)
    images = model.examiner.images([q.prompt for q in asked], [q.index for q in asked])
    names = {c.name for c in concepts.objects if c.category == category}
    columns = [i for i, name in enumerate(judge.objects) if name in names]
    seen = judge.classify(images).object_logits.softmax(1)[:, columns].sum(1) > 0.5
    rate = Rate(int(seen.sum()), len(seen))
    return Known(category, enough(rate), {"category rate above .5": share(rate)})


def known_to_classifier(model: Model, classifier: Classifier, name: str, n: int) -> Known:
    """One of Imagenette's classes by ResNet-50: accuracy before erasing, "Image of X", n seeds."""
    found = next((known for known in IMAGENETTE if known.lower() == name.lower()), None)
    if found is None:
        raise RequestError(f"{name!r} is no class of Imagenette: {', '.join(IMAGENETTE)}; for an artist say --artist")
    images = model.examiner.images([f"Image of {found}"] * n, range(FIRST_INDEX, FIRST_INDEX + n))
    rank = classifier.ranks(images, [IMAGENETTE[found]] * n)
    cells: dict[str, Cell] = {"accuracy": share(psr(rank)), "among the first 5": share_of(rank < 5)}
    return Known(found, enough(psr(rank)), cells)


def known_to_clip(model: Model, scorer: ClipScorer, artist: str, n: int) -> Known:
    """An artist by CLIP on n pictures a column: content and artist, artist, content, each against its own words."""
    said = [(FORMS[i % len(FORMS)], CONTENTS[i // len(FORMS) % len(CONTENTS)]) for i in range(n)]
    texts = {
        "Content & Artist": [form.format(content=content, artist=artist) for form, content in said],
        "Artist": [ALONE.format(artist=artist)] * n,
        "Content": [content for _, content in said],
    }
    indices, cells, towards = range(FIRST_INDEX, FIRST_INDEX + n), dict[str, Cell](), dict[str, torch.Tensor]()
    for column, prompts in texts.items():
        images = model.examiner.images(prompts, indices)
        own = [artist] * n if column == "Artist" else prompts
        found = scorer.columns(images, {"own": own, "artist": [artist] * n})
        cells[column], towards[column] = score(found["own"]), found["artist"]
    moved = mean_difference(towards["Content & Artist"], towards["Content"])
    return Known(artist, moved.low > 0, cells | {"towards the name": moved})


def table(answers: Sequence[Known], n: int, seed: int) -> Table:
    """All answers as one table, the slides' rows beside artists and styles."""
    columns = tuple(dict.fromkeys(["known", *(column for a in answers for column in a.cells)]))
    rows = [Row(a.concept, {"known": "yes" if a.known else "no", **a.cells}) for a in answers]
    quotes = ALIGNMENT if set(ALIGNMENT_COLUMNS) <= set(columns) else ()
    note = f"The untouched model, n = {n} pictures a column, suite seed {seed}; 95 % intervals."
    return Table("Does the model know it?", columns, (*rows, *quotes), note)
