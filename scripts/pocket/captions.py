"""Captions for training, drawn at random in the shares that concepts.json fixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eraser_core.pocket.concepts import Concept, Concepts, fill


@dataclass(frozen=True)
class Caption:
    """A text and what it says of the drawing: None where it leaves that open."""

    text: str
    name: str | None = None
    category: str | None = None
    style: str | None = None


class Captioner:
    """One caption for a drawing of an object in a style."""

    def __init__(self, concepts: Concepts, shares: dict[str, float], rng: np.random.Generator) -> None:
        self.concepts, self.shares, self.rng = concepts, shares, rng

    def __call__(self, concept: Concept, style: str) -> str:
        return self.draw(concept, style).text

    def draw(self, concept: Concept, style: str) -> Caption:
        """A caption, and what it leaves open."""
        roll = self.rng.random()
        for kind in ("empty", "style", "category", "synonym", "description"):
            roll -= self.shares[kind]
            if roll < 0:
                break
        else:
            kind = "name"
        if kind == "empty":
            return Caption("")
        word = style
        if self.rng.random() < self.shares["style_synonym"]:
            word = self._pick(self.concepts.style_synonyms[style])
        if kind == "style":
            return Caption(fill(self._pick(self.concepts.training.style), style=word), style=style)
        phrases: Sequence[str] = {
            "category": (self.concepts.categories[concept.category],),
            "synonym": concept.synonyms,
            "description": concept.descriptions,
        }.get(kind, ()) or (concept.phrase,)
        phrase = phrases[int(self.rng.integers(len(phrases)))]
        subject = {"category": concept.category} if kind == "category" else {"name": concept.name}
        if self.rng.random() < self.shares["with_style"]:
            text = fill(self._template(self.concepts.training.object_style), phrase=phrase, style=word)
            return Caption(text, style=style, **subject)
        return Caption(fill(self._template(self.concepts.training.object), phrase=phrase), **subject)

    def _template(self, templates: Sequence[str]) -> str:
        """The plain template at its own share, any of the others else."""
        if self.rng.random() < self.shares["first_template"]:
            return templates[0]
        return self._pick(templates[1:])

    def _pick(self, templates: Sequence[str]) -> str:
        return templates[int(self.rng.integers(len(templates)))]
