"""From names to targets: templates, anchors, what is kept, and what this model cannot erase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..anchors import Candidates
from ..denoiser import Denoiser
from ..errors import RequestError
from ..evaluation.pocket.tasks import Task, category_of, tasks_for, together
from ..keeping import OF_THINGS, TEMPLATES
from ..models import Model
from ..pocket.concepts import Concept, Concepts
from ..request import Request, Target
from ..retain_lists import Kind, kept, words_of
from .register import Entry, Named

A_PERSON = "a person"  # what is drawn in a person's place: the nearest name would be another person's


@dataclass(frozen=True)
class Plan:
    """What is erased. `entries` go with the request's targets, one to one; `tasks` too, on the pocket model alone."""

    entries: tuple[Entry, ...]
    request: Request
    left_out: Mapping[str, str]
    tasks: tuple[Task, ...] = ()


def plan(model: Model, found: Named, retain: Sequence[str], seed: int, images: int) -> Plan:
    """The request of all names that the model can read. `retain` are words to keep, beside those that come with us.

    RequestError where no name is left, or an anchor is itself opted out.
    """
    left_out, known = dict(found.left_out), []
    for entry, name in found.known:
        why = _cannot(model, (name, *entry.synonyms))
        if why:
            left_out[entry.label] = why
        else:
            known.append((entry, name))
    if not known:
        reasons = "; ".join(f"{label}: {why}" for label, why in list(left_out.items())[:3])
        raise RequestError(f"none of the {len(left_out)} entries can be erased from this model: {reasons}")
    _check_anchors(known)
    entries = tuple(entry for entry, _ in known)
    if model.concepts is not None:
        tasks = _pocket_tasks(model.concepts, model.denoiser, known, retain, seed, images)
        return Plan(entries, together(tasks, seed), left_out, tuple(tasks))
    return Plan(entries, _request(model.denoiser, known, retain, seed), left_out)


def _cannot(model: Model, phrases: Sequence[str]) -> str:
    """Why the model cannot read one of these; "" where it can."""
    name, concepts = phrases[0], model.concepts
    if concepts is not None and not _draws(concepts, name):
        return f"the model does not draw it{concepts.near(name)}"
    for phrase in phrases:
        try:
            if model.denoiser.excess(phrase) > 0:
                return "it is longer than the model reads"
        except RequestError as error:
            return str(error)
    return ""


def _draws(concepts: Concepts, name: str) -> bool:
    return name in concepts.styles or category_of(concepts, name) is not None or concepts.find(name) in concepts.drawn


def _object(concepts: Concepts, name: str) -> Concept | None:
    """The object that a name means, unless it is a style or a category."""
    broad = name in concepts.styles or category_of(concepts, name) is not None
    return None if broad else concepts.find(name)


def _check_anchors(known: Sequence[tuple[Entry, str]]) -> None:
    gone = {phrase.lower(): entry.label for entry, name in known for phrase in (name, *entry.synonyms)}
    for entry, _ in known:
        other = gone.get((entry.anchor or "").lower())
        if other is not None:
            raise RequestError(
                f"the anchor of {entry.label} is {entry.anchor!r}, and {other} is opted out: name another"
            )


def _pocket_tasks(
    concepts: Concepts,
    denoiser: Denoiser,
    known: Sequence[tuple[Entry, str]],
    retain: Sequence[str],
    seed: int,
    images: int,
) -> list[Task]:
    wanted = [(name, entry.synonyms) for entry, name in known]
    # Of all objects, not of the half that is retained: that one changes with every name, and so would every target.
    gone = {c.phrase.lower() for name, _ in wanted if (c := concepts.find(name)) is not None}
    candidates = Candidates(denoiser, [c.phrase for c in concepts.drawn])
    anchors = [
        candidates.nearest(c.phrase, gone) if entry.anchor is None and (c := _object(concepts, name)) else entry.anchor
        for entry, name in known
    ]
    return tasks_for(concepts, denoiser, wanted, anchors, list(retain) or None, seed=seed, n=max(images, 1))


def _request(denoiser: Denoiser, known: Sequence[tuple[Entry, str]], retain: Sequence[str], seed: int) -> Request:
    phrases = [phrase for entry, name in known for phrase in (name, *entry.synonyms)]
    gone = {phrase.lower() for phrase in phrases}
    kinds: list[Kind] = [kind for kind in ("style", "object", "scene") if any(_kind(e) == kind for e, _ in known)]
    lists = [word for kind in kinds for word in kept(phrases, kind)]
    candidates = {
        kind: Candidates(denoiser, words_of(kind))
        for kind in kinds
        if any(_kind(e) == kind and e.anchor is None and e.kind != "identity" for e, _ in known)
    }
    left = {kind: {w.lower() for w in words_of(kind)} - {w.lower() for w in kept(phrases, kind)} for kind in candidates}
    targets: list[Target] = []
    for entry, name in known:
        anchor = entry.anchor
        if anchor is None:
            kind = _kind(entry)
            anchor = A_PERSON if entry.kind == "identity" else candidates[kind].nearest(name, left[kind])
        templates = OF_THINGS if entry.kind == "identity" else TEMPLATES[entry.kind]
        targets.append(Target(name, anchor, entry.synonyms, templates))
    words = dict.fromkeys(word for word in (*retain, *lists) if word.lower() not in gone)
    return Request(tuple(targets), tuple(words), seed)


def _kind(entry: Entry) -> Kind:
    """Whose list is kept and gives the anchor; people are in none, and painters are the nearest that there is."""
    return "style" if entry.kind == "identity" else entry.kind
