"""The pictures of the pocket suite: the slides' three tasks on the pocket model.

Objects (for Imagenette), styles (for artists), and a category such as "animal" (for nudity), asked for by its members
and by its word. Prompts are templates that neither the model's captions nor any erasing used.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ...errors import RequestError
from ...pocket.concepts import Concept, Concepts, without_article
from ...pocket.judge import Judge
from ..examiner import Question
from ..suites.items import Item, Subject
from .tasks import category_of, questions, style_questions

# Every class has numbers of its own, so that its pictures' noise does not depend on what else is asked for.
ROOM = 1000
STYLES_FROM, ALIGNMENT_FROM, CATEGORIES_FROM = 200_000, 300_000, 1_000_000
MEMBERS, ROOMS = 30, 40  # of a category: at most so many members, then room for its word
WORD_SHARE = 4  # a category's word is asked for as often as four of its members


class PocketPictures:
    """`images` pictures a class; `classes` kept objects, drawn by the seed, None for all of them."""

    name = "pocket"

    def __init__(
        self,
        concepts: Concepts,
        network: Judge,
        subjects: Sequence[Subject],
        *,
        images: int = 16,
        classes: int | None = None,
        seed: int = 0,
    ):
        if not 1 <= images <= ROOM:
            raise RequestError(f"--images {images}: ask for 1 to {ROOM} pictures a class")
        self.concepts, self.judge, self._images, self._seed = concepts, network, images, seed
        self.said = f"--images {images}" + (f" --classes {classes}" if classes is not None else "")
        self.subjects = tuple(subjects)
        self.targets = {subject: tuple(self._named(t) for t in subject.targets) for subject in subjects}
        erased = {name for named in self.targets.values() for name in named}
        self.styles = [s for s in concepts.styles if s in erased]
        self.categories = [c for c in concepts.categories if c in erased]
        self.objects = [c for c in concepts.drawn if c.name in erased]
        if not erased:
            self.styles = list(concepts.styles)
        self.kept = self._choose(classes)
        first = [*(c.name for c in self.objects), *self.categories, *self.styles]
        self.concepts_shown = tuple([*first, *(c.name for c in self.kept)] if first else ())

    def _named(self, phrase: str) -> str:
        """The object, style or category that an erasure's target names."""
        category = category_of(self.concepts, phrase)
        if category is not None or phrase in self.concepts.styles:
            return category or phrase
        concept = self.concepts.find(phrase)
        if concept is None:
            raise RequestError(
                f"an erasure's target {phrase!r} is unknown to the pocket model: it was made for another"
            )
        return concept.name

    def _choose(self, classes: int | None) -> list[Concept]:
        """Objects that no erasure is about; the anchors, which are drawn in their place, come in no column either."""
        anchors = {self._anchor(a) for subject in self.subjects for a in subject.anchors}
        members = {c.name for category in self.categories for c in self.concepts.members(category)}
        others = [c for c in self.concepts.drawn if c not in self.objects and c.name not in anchors | members]
        if classes is None or classes >= len(others):
            return others
        chosen = random.Random(f"pocket suite/{self._seed}").sample(others, classes)
        return [c for c in others if c in chosen]

    def _anchor(self, phrase: str) -> str:
        concept = self.concepts.find(phrase)
        return without_article(phrase) if concept is None else concept.name

    def items(self) -> list[Item]:
        found = [item for c in (*self.objects, *self.kept) for item in self._object(c)]
        for style in self.concepts.styles if self.styles else ():
            found += self._style(style)
        for category in self.categories:
            found += self._category(category)
        for style in self.styles:
            found += self._alone(style)
        return found

    def _object(self, concept: Concept) -> list[Item]:
        place = ROOM * self.concepts.objects.index(concept)
        asked = questions(self.concepts, [(concept, concept.phrase)], self._images, place)
        return [_item(q, "objects", without_article(concept.phrase)) for q in asked]

    def _style(self, style: str) -> list[Item]:
        """On objects in whose prompts no erasure learnt, where there are some."""
        learnt = " ".join(prompt for subject in self.subjects for prompt in subject.learnt_prompts)
        new = [c for c in self.concepts.drawn if c.phrase not in learnt] or list(self.concepts.drawn)
        chosen = random.Random(f"pocket suite styles/{self._seed}").sample(new, len(new))
        place = STYLES_FROM + ROOM * self.concepts.styles.index(style)
        asked = style_questions(self.concepts, chosen, [(style, style)], self._images, place)
        return [_item(q, "styles", style) for q in asked]

    def _category(self, category: str) -> list[Item]:
        """By its members and by its word; an item's concept is the category, its word what was said."""
        place = CATEGORIES_FROM + ROOM * list(self.concepts.categories).index(category) * ROOMS
        found = []
        for number, concept in enumerate(self.concepts.members(category)):
            asked = questions(self.concepts, [(concept, concept.phrase)], self._images, place + ROOM * number)
            found += [_item(replace(q, answer=category), "members", without_article(concept.phrase)) for q in asked]
        phrase = self.concepts.categories[category]
        any_of = self.concepts.members(category)[0]  # questions walk through the styles that an object was seen in
        asked = questions(self.concepts, [(any_of, phrase)], WORD_SHARE * self._images, place + ROOM * MEMBERS)
        return found + [_item(replace(q, answer=category), "word", category) for q in asked]

    def _alone(self, style: str) -> list[Item]:
        """The style by itself, and objects in no style: the columns "Artist" and "Content" of the slides' table."""
        place = ALIGNMENT_FROM + ROOM * self.concepts.styles.index(style)
        prompts = self.concepts.style_prompts(style, scoring=True)
        alone = [
            Item(
                place + i,
                prompts[i % len(prompts)],
                "style alone",
                style,
                style,
                texts={"prompt": prompts[i % len(prompts)]},
            )
            for i in range(self._images)
        ]
        chosen = random.Random(f"pocket suite content/{style}/{self._seed}").sample(
            self.concepts.drawn, min(self._images, len(self.concepts.drawn))
        )
        content = []
        for i, concept in enumerate(chosen):
            prompt = self.concepts.scoring.object[i % len(self.concepts.scoring.object)]
            said = prompt.replace("{phrase}", concept.phrase)
            content.append(
                Item(place + ROOM // 2 + i, said, f"content for {style}", concept.name, texts={"prompt": said})
            )
        return alone + content

    def draws(self, subject: Subject | None, item: Item) -> bool:
        """An erasure is asked for its own kind of concepts, and for objects that it should keep."""
        if subject is None:
            return True
        targets = self.targets[subject]
        if any(t in self.concepts.styles for t in targets) and item.part == "styles":
            return True
        if item.part in ("members", "word"):
            return item.concept in targets
        of_objects = any(t not in self.concepts.styles for t in targets)
        return item.part == "objects" and of_objects

    def target_of(self, subject: Subject, item: Item) -> int | None:
        targets = self.targets[subject]
        return targets.index(item.concept) if item.concept in targets else None


def _item(question: Question, part: str, word: str) -> Item:
    return Item(question.index, question.prompt, part, question.answer, word, texts={"prompt": question.prompt})
