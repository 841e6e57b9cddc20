"""What is erased from a model of anybody's, and what it keeps and draws in a concept's place as far as nobody said it.

The command line, `eraser_core.erase` and the nodes ask here, so that the same words give the same erasure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .anchors import nearest
from .errors import RequestError
from .request import Request, Target
from .retain_lists import LISTS, Kind, guess, kept
from .text_readers import TextReader

OF_THINGS = ("{}", "a photo of {}", "a picture of {}", "a painting of {}")
OF_STYLES = ("{}", "a painting by {}", "a picture by {}", "a painting in the style of {}")
TEMPLATES: dict[Kind, tuple[str, ...]] = {"object": OF_THINGS, "style": OF_STYLES, "scene": OF_THINGS}
SHOWN = 4  # words of a list in a note


@dataclass(frozen=True)
class Chosen:
    """The request, where its retain set comes from ("the list of objects", "named", "nothing"), and what to tell the user."""

    request: Request
    source: str
    notes: tuple[str, ...]


def parted(
    concepts: Sequence[str], anchors: Sequence[str | None]
) -> tuple[list[tuple[str, list[str]]], list[str | None]]:
    """(name, synonyms) of each concept, written with bars between, and an anchor for each, None where none was named.

    RequestError for more anchors than concepts.
    """
    if len(anchors) > len(concepts):
        raise RequestError(f"{len(anchors)} anchors were given for {len(concepts)} concepts: one each at most")
    phrases = [[part.strip() for part in concept.split("|")] for concept in concepts]
    return [(name, synonyms) for name, *synonyms in phrases], [*anchors, *[None] * (len(concepts) - len(anchors))]


def choose(
    denoiser: TextReader,
    wanted: Sequence[tuple[str, Sequence[str]]],
    anchors: Sequence[str | None],
    retain: Sequence[str] | None,
    seed: int,
    kind: Kind | Literal["auto"] = "auto",
) -> Chosen:
    """The request of (concept, synonyms), each in the templates of its kind, which "auto" guesses by its words.

    `retain` None keeps the lists of the concepts' kinds, an empty one nothing. An anchor that is None is the nearest word
    of `retain`, or of the list of its concept's kind where `retain` names none; "" is the neutral prompt.
    """
    phrases = [phrase for name, synonyms in wanted for phrase in (name, *synonyms)]
    kinds = {name: guess(name) if kind == "auto" else (kind, "you said so") for name, _ in wanted}
    notes = [f"{name!r} is taken for {_one(of)}, because {why}" for name, (of, why) in kinds.items()]
    lists = {name: kept(phrases, of) for name, (of, _) in kinds.items()}
    if retain is None:
        words = tuple(dict.fromkeys(word for words in lists.values() for word in words))
        source = f"the list of {' and '.join(dict.fromkeys(LISTS[of] for of, _ in kinds.values()))}"
        notes.append(f"kept is {source}, {len(words)} words: {_some(words)}, ...")
    else:
        words, source = tuple(retain), "named" if retain else "nothing"
        notes += [] if retain else ["nothing is kept, as you said"]
    targets = []
    for (name, synonyms), anchor in zip(wanted, anchors, strict=True):
        drawn = nearest(denoiser, name, retain or lists[name]) if anchor is None else anchor
        targets.append(Target(name, drawn, tuple(synonyms), TEMPLATES[kinds[name][0]]))
    return Chosen(Request(tuple(targets), words, seed), source, tuple(notes))


def _one(kind: Kind) -> str:
    return f"an {kind}" if kind == "object" else f"a {kind}"


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:: max(1, len(words) // SHOWN)][:SHOWN])
