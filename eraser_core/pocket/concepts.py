"""What the pocket model knows: objects, styles, categories, captions, and which prompts are kept for scoring."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ..spelling import close, did_you_mean

Split = Literal["generator", "never-shown", "judge-only"]
FOLDER = Path(__file__).resolve().parent
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


# The shipped models: a UNet, and a transformer trained by flow matching. Both know the same words and draw the same.
FAMILIES = ("pocket", "pocket-flow")


@dataclass(frozen=True)
class Concept:
    """One object.

    `phrase` is the name with its article ("a church", "scissors"); synonyms and descriptions are phrases too ("a chapel").
    """

    name: str
    phrase: str
    code: str  # the emoji's code points, by which the drawings are found
    category: str
    split: Split
    synonyms: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    look_alikes: tuple[str, ...] = ()  # names of generator objects that are easily taken for this one

    @property
    def plain_synonyms(self) -> tuple[str, ...]:
        """The synonyms without their articles ("chapel")."""
        return tuple(without_article(synonym) for synonym in self.synonyms)


@dataclass(frozen=True)
class Templates:
    """Caption templates with {phrase} and {style}."""

    object: tuple[str, ...]
    object_style: tuple[str, ...]
    style: tuple[str, ...]


@dataclass(frozen=True)
class Concepts:
    """All that `concepts.json` says. `scoring` templates were never used as captions: only their words are known."""

    styles: tuple[str, ...]
    style_synonyms: dict[str, tuple[str, ...]]  # "ink" -> ("monochrome",): other words for a style, in some captions
    categories: dict[str, str]  # word -> phrase ("animal" -> "an animal")
    objects: tuple[Concept, ...]
    training: Templates
    scoring: Templates
    held_out_pairs: tuple[tuple[str, str], ...]  # (object, style) never shown together to the generator
    near_twins: tuple[str, ...]  # drawings too close to an object to be called "other"

    @property
    def object_templates(self) -> tuple[str, ...]:
        """The training captions' templates, in every style and in none, with {} for the object."""
        styled = [t.replace("{style}", s) for t in self.training.object_style for s in self.styles]
        return tuple(t.replace("{phrase}", "{}") for t in (*self.training.object, *styled))

    def split(self, *kinds: Split) -> tuple[Concept, ...]:
        """The objects of these splits, in file order."""
        return tuple(concept for concept in self.objects if concept.split in kinds)

    @property
    def drawn(self) -> tuple[Concept, ...]:
        """The objects that the pocket model draws."""
        return self.split("generator")

    @property
    def never_shown(self) -> tuple[Concept, ...]:
        """The objects that the generator and its autoencoder never saw, known to the judge."""
        return self.split("never-shown")

    def get(self, text: str) -> Concept:
        """The object of this name, phrase, synonym or description. KeyError when there is none."""
        wanted = without_article(text.strip().lower())
        for concept in self.objects:
            if concept.name == wanted:
                return concept
        for concept in self.objects:
            others = (*concept.synonyms, *concept.descriptions)
            if wanted in {without_article(other) for other in others}:
                return concept
        raise KeyError(text)

    def find(self, text: str) -> Concept | None:
        """Like `get`, or None."""
        try:
            return self.get(text)
        except KeyError:
            return None

    def near(self, text: str) -> str:
        """A question that names what is written like an unknown word, to end a message with; "" where nothing is."""
        words = [*(word for c in self.drawn for word in (c.name, *c.plain_synonyms)), *self.styles, *self.categories]
        return did_you_mean(close(without_article(text.strip().lower()), words))

    def members(self, category: str, *kinds: Split) -> tuple[Concept, ...]:
        """The objects of a category; of the drawn ones unless splits are named."""
        return tuple(c for c in self.split(*(kinds or ("generator",))) if c.category == category)

    def prompts(self, phrase: str, style: str | None = None, *, scoring: bool = False) -> list[str]:
        """Every prompt for a phrase ("a church", "a chapel", "an animal"), in a style or none, from the wanted templates."""
        templates = self.scoring if scoring else self.training
        if style is None:
            return [fill(t, phrase=phrase) for t in templates.object]
        return [fill(t, phrase=phrase, style=style) for t in templates.object_style]

    def style_prompts(self, style: str, *, scoring: bool = False) -> list[str]:
        """Every prompt for a style alone."""
        return [fill(t, style=style) for t in (self.scoring if scoring else self.training).style]


def fill(template: str, **words: str) -> str:
    """Put words into a template. Unlike str.format it leaves every other brace alone."""
    return _PLACEHOLDER.sub(lambda match: words.get(match.group(1), match.group(0)), template)


def without_article(phrase: str) -> str:
    """ "a church" -> "church"."""
    first, _, rest = phrase.partition(" ")
    return rest if rest and first in ("a", "an", "the") else phrase


def with_article(phrase: str) -> str:
    """ "church" -> "a church". A guess from the spelling, for words that are in no list; phrases of known objects carry theirs."""
    if without_article(phrase) != phrase:
        return phrase
    vowel = phrase[:1] in tuple("aeiou") and not phrase.startswith(("uni", "eu", "one"))
    return ("an " if vowel or phrase.startswith("hour") else "a ") + phrase


@lru_cache(maxsize=1)
def load_concepts() -> Concepts:
    """Read `concepts.json`."""
    raw = json.loads((FOLDER / "concepts.json").read_text(encoding="utf-8"))
    objects = tuple(
        Concept(
            name=o["name"],
            phrase=o["phrase"],
            code=o["code"],
            category=o["category"],
            split=o["split"],
            synonyms=tuple(o["synonyms"]),
            descriptions=tuple(o["descriptions"]),
            look_alikes=tuple(o["look_alikes"]),
        )
        for o in raw["objects"]
    )
    return Concepts(
        styles=tuple(raw["styles"]),
        style_synonyms={style: tuple(words) for style, words in raw["style_synonyms"].items()},
        categories=dict(raw["categories"]),
        objects=objects,
        training=_templates(raw["templates"]),
        scoring=_templates(raw["scoring_templates"]),
        held_out_pairs=tuple((name, style) for name, style in raw["held_out_pairs"]),
        near_twins=tuple(raw["near_twins"]),
    )


def _templates(raw: dict[str, list[str]]) -> Templates:
    return Templates(tuple(raw["object"]), tuple(raw["object_style"]), tuple(raw["style"]))
