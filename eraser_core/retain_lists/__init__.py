"""What a model is told to keep where nobody says: words that come with the software, by the kind of the concept.

The artists are painters who have been dead for more than 70 years.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Literal

Kind = Literal["object", "style", "scene"]
KINDS: tuple[Kind, ...] = ("object", "style", "scene")
LISTS: dict[Kind, str] = {"object": "objects", "style": "artists", "scene": "scenes"}
_ARTICLES = {"a", "an", "the"}
_OF_STYLES = {"style", "painting", "drawing", "art", "by"}


@lru_cache
def words_of(kind: Kind) -> tuple[str, ...]:
    """The list of a kind."""
    text = (files(__package__) / f"{LISTS[kind]}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def guess(concept: str) -> tuple[Kind, str]:
    """The kind of a concept by how it is written, and why."""
    for kind in ("style", "scene"):
        if any(_same(concept, known) for known in words_of(kind)):
            return kind, f"it is in the list of {LISTS[kind]}"
    said = concept.split()
    telling = [word for word in said if word.lower() in _OF_STYLES or word.lower().endswith("ism")]
    if telling:
        return "style", f"it says {telling[0]!r}"
    if len(said) > 1 and all(word[:1].isupper() for word in (said[0], said[-1])):
        return "style", "it is written as a name"
    return "object", "nothing says otherwise"


def kept(concepts: Sequence[str], kind: Kind) -> tuple[str, ...]:
    """The list of a kind without what says the same as a concept to erase, or a part of it."""
    return tuple(word for word in words_of(kind) if not any(_same(word, concept) for concept in concepts))


def _same(one: str, other: str) -> bool:
    """Whether all words of one phrase are in the other ("van Gogh" and "Vincent van Gogh", "car" and "sports car")."""
    a, b = ({word.lower() for word in phrase.split()} - _ARTICLES for phrase in (one, other))
    return bool(a and b) and (a <= b or b <= a)
