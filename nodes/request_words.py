"""The words that a user types into *Train Concept Eraser* as the engine's request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import TYPE_CHECKING

from eraser_core.denoiser import Denoiser
from eraser_core.errors import RequestError
from eraser_core.keeping import Chosen, choose
from eraser_core.pocket.concepts import FAMILIES

if TYPE_CHECKING:
    from eraser_core.pocket.concepts import Concepts

SHOWN = 60  # letters of a wrong word in a message
NOTHING = "-"  # alone in the box 'retain'


@dataclass(frozen=True)
class Words:
    """One text box each: concepts (one a line, synonyms after a bar), anchors (in the same order), retained concepts."""

    concepts: str
    anchor: str
    retain: str

    def wanted(self) -> list[tuple[str, tuple[str, ...]]]:
        """(concept, synonyms) of each line; RequestError when there is none, or one stands there twice."""
        lines = ([part.strip() for part in line.split("|") if part.strip()] for line in _lines(self.concepts))
        found = [(names[0], tuple(names[1:])) for names in lines if names]
        typed = [phrase.lower() for name, others in found for phrase in (name, *others)]
        twice = next((phrase for phrase in typed if typed.count(phrase) > 1), None)
        if twice:
            raise RequestError(f"the box 'concepts' has {twice!r} twice: name it once")
        if not found:
            raise RequestError(
                "the box 'concepts' is empty: type what should vanish, one concept a line, such as church"
            )
        return found

    def anchors(self) -> list[str | None]:
        """One a concept; None is to be chosen. RequestError when there are more anchors than concepts."""
        given, count = _lines(self.anchor), len(self.wanted())
        # Fewer anchors than concepts: an empty line stands for one that is to be chosen.
        beside = [line.strip() or None for line in self.anchor.rstrip().splitlines()]
        if len(given) == count:
            return list(given)
        if len(beside) > count:
            raise RequestError(
                f"the box 'anchor' has {len(beside)} lines for {count} concept(s): one line each at most, in their order"
            )
        return [*beside, *[None] * (count - len(beside))]

    def kept(self) -> tuple[str, ...] | None:
        """The words to keep: none of them where a dash says so, None where the box is empty."""
        lines = tuple(dict.fromkeys(_lines(self.retain)))
        if NOTHING in lines and len(lines) > 1:
            raise RequestError(
                f"the box 'retain' has a dash ({NOTHING}), which keeps nothing, beside words to keep: leave one of the two out"
            )
        return () if lines == (NOTHING,) else lines or None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def build(words: Words, denoiser: Denoiser, seed: int) -> Chosen:
    """The request that the command line builds of the same words, and what to say of it under the node.

    An empty retain box keeps the list of the concept's kind, and half of what it draws on the pocket model, where names
    are checked and templates are its own captions'. A dash keeps nothing. An empty anchor is chosen.
    """
    if denoiser.family in FAMILIES:
        return _pocket(words, denoiser, seed)
    kept = words.kept()
    for name, synonyms in words.wanted():
        _read("concepts", denoiser, [name, *synonyms])
    _read("anchor", denoiser, [anchor for anchor in words.anchors() if anchor])
    _read("retain", denoiser, kept or ())
    found = choose(denoiser, words.wanted(), words.anchors(), kept, seed)
    hint = (f"the box 'retain' takes other words to keep, and a dash ({NOTHING}) in it keeps nothing",)
    return found if kept is not None else replace(found, notes=found.notes + hint)


def _read(box: str, denoiser: Denoiser, texts: Sequence[str]) -> None:
    """RequestError for a text that the model cannot read, with the box in which it stands."""
    try:
        if texts:
            denoiser.encode(texts)
    except RequestError as error:
        raise RequestError(f"the box {box!r}: {error}") from error


def _pocket(words: Words, denoiser: Denoiser, seed: int) -> Chosen:
    from eraser_core.evaluation.pocket.tasks import tasks_for, together
    from eraser_core.pocket.concepts import load_concepts

    concepts = load_concepts()
    _check_pocket_words(concepts, words)
    _read("concepts", denoiser, [synonym for _, synonyms in words.wanted() for synonym in synonyms])
    _read("anchor", denoiser, [anchor for anchor in words.anchors() if anchor])
    kept = words.kept()
    tasks = tasks_for(concepts, denoiser, words.wanted(), words.anchors(), kept, seed=seed, n=1)
    source = "a part of what it draws" if kept is None else "named" if kept else "nothing"
    return Chosen(together(tasks, seed), source, () if kept else (f"kept is {source}",))


def _check_pocket_words(concepts: Concepts, words: Words) -> None:
    """RequestError for what would be ignored or mean nothing: unknown names, an object in a style's place and the like."""

    def kind(box: str, name: str) -> str:
        if name in concepts.styles:
            return "style"
        drawn = concepts.find(name)
        if drawn is None or drawn not in concepts.drawn:
            raise RequestError(
                f"the box {box!r}: the pocket model draws no {shorten(name, SHOWN)!r}: this node's help page (?) lists what it "
                f"draws{concepts.near(name)}"
            )
        return "object"

    erased = [kind("concepts", name) for name, _ in words.wanted()]
    for (name, _), own, anchor in zip(words.wanted(), erased, words.anchors(), strict=True):
        if anchor and (anchor in concepts.styles) != (own == "style"):
            raise RequestError(f"{name!r} is of the kind {own}, its anchor {anchor!r} is not: choose another anchor")
    for name in words.kept() or ():
        own = kind("retain", name)
        if own not in erased:
            raise RequestError(
                f"{name!r} to retain is of the kind {own}, and no {own} is erased: take it out, it would not be looked at"
            )
