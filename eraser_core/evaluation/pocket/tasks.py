"""The pocket suite: what is erased from the pocket model, with which words, and on which others it is scored.

Figures that cannot flatter: prompts used for scoring are templates that erasing never used; kept concepts are scored
apart by whether they were in the retain set; the anchor, which is drawn in the erased concept's place, counts in
neither column unless it was retained.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...anchors import nearest
from ...denoiser import Denoiser
from ...erasure import Erasure
from ...errors import RequestError
from ...pocket.concepts import Concept, Concepts, with_article, without_article
from ...pocket.tokenizer import split_words
from ...request import Request, Target, says
from ..examiner import Question

# A style or a category is spread over many objects' prompts: it takes more steps and more z_t than one object does.
BROAD_SETTINGS = {"iterations": 300, "pool_size": 512}


@dataclass(frozen=True)
class Task:
    """One thing to erase and the sheets of questions by which it is scored, by name.

    Sheets: `erased` (the concept by its name), `synonym`, `description`, `kept` (neither retained nor the anchor),
    `retained`, `look_alike` (those of `kept` that resemble the concept).
    """

    kind: Literal["object", "style", "category"]
    concept: str
    anchor: str
    retained: tuple[str, ...]
    request: Request
    sheets: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)


def object_task(
    concepts: Concepts,
    denoiser: Denoiser,
    name: str,
    *,
    anchor: str | None = None,
    retain: Sequence[str] | None = None,
    synonyms: Sequence[str] = (),
    erased_too: Sequence[str] = (),
    seed: int = 0,
    n: int = 60,
) -> Task:
    """Erase an object by name.

    `retain` names what to keep; None is half of the other objects, drawn by the seed. Without an `anchor` the nearest
    kept object by text embedding is taken: of the retain set, or of all where it is empty; "" is the neutral prompt.
    `synonyms` are further phrases to erase with it; `erased_too` names what is erased in the same run: objects and those
    of categories count as kept nowhere. `n` questions a sheet.
    """
    concept = _drawn(concepts, name)
    gone = {concept, *(c for other in erased_too for c in _objects_of(concepts, other))}
    others = [c for c in concepts.drawn if c not in gone]
    retained = tuple(
        random.Random(f"retain/{seed}").sample(others, len(others) // 2)
        if retain is None
        else [_drawn(concepts, other) for other in retain]
    )
    if anchor is None:
        anchor = nearest(denoiser, concept.phrase, [c.phrase for c in (retained or others)])
    put = concepts.find(anchor)
    kept = [c for c in others if c not in retained and c != put]
    phrases = tuple(with_article(s) for s in synonyms)
    target = Target(concept.phrase, put.phrase if put else anchor, phrases, concepts.object_templates)
    sheets = {
        "erased": questions(concepts, [(concept, concept.phrase)], n, 0),
        "synonym": questions(concepts, [(concept, s) for s in concept.synonyms if s not in phrases], n, 10_000),
        "description": questions(concepts, [(concept, s) for s in concept.descriptions], n, 20_000),
        "kept": questions(concepts, [(c, c.phrase) for c in kept], n, 30_000),
        "retained": questions(concepts, [(c, c.phrase) for c in retained], n, 40_000),
        "look_alike": questions(concepts, [(c, c.phrase) for c in kept if c.name in concept.look_alikes], n, 50_000),
    }
    request = Request((target,), tuple(c.phrase for c in retained), seed)
    return Task("object", concept.name, target.anchor, tuple(c.name for c in retained), request, sheets)


def style_task(
    concepts: Concepts,
    denoiser: Denoiser,
    style: str,
    *,
    anchor: str | None = None,
    retain: Sequence[str] | None = None,
    seed: int = 0,
    n: int = 60,
) -> Task:
    """Erase a style in the prompts of half of the objects; scored on the other half.

    `retain` names styles to keep (None is three of the five others, the anchor among them): the retain set holds the
    first half's objects in them.
    """
    if style not in concepts.styles:
        raise RequestError(f"the pocket model has no style {style!r}: it has {', '.join(concepts.styles)}")
    others = [s for s in concepts.styles if s != style]
    rng = random.Random(f"style/{seed}")
    objects = rng.sample(concepts.drawn, len(concepts.drawn))
    learnt, scored = objects[::2], objects[1::2]
    templates = [t.replace("{style}", "{}") for t in concepts.training.object_style]
    prompts = [t.replace("{phrase}", c.phrase) for i, c in enumerate(learnt) for t in (templates[i % 4], templates[0])]
    if anchor is None:
        anchor = nearest(denoiser, style, others, prompts)
    if retain is None:
        scored_only = rng.sample([s for s in others if s != anchor], 2)
        retain = [s for s in others if s not in scored_only]
    retained = tuple(retain)
    kept = [s for s in others if s not in retained and s != anchor]
    target = Target(style, anchor, templates=tuple(prompts))
    kept_prompts = [
        templates[i % 4].replace("{phrase}", c.phrase).replace("{}", s) for i, c in enumerate(learnt) for s in retained
    ]
    sheets = {
        "erased": style_questions(concepts, scored, [(style, style)], n, 0),
        "synonym": style_questions(concepts, scored, [(style, s) for s in concepts.style_synonyms[style]], n, 10_000),
        "kept": style_questions(concepts, scored, [(s, s) for s in kept], n, 30_000),
        "retained": style_questions(concepts, scored, [(s, s) for s in retained], n, 40_000),
    }
    return Task("style", style, anchor, retained, Request((target,), tuple(kept_prompts), seed), sheets)


def settings_for(tasks: Sequence[Task], known: Collection[str]) -> dict[str, Any]:
    """What these tasks need beyond the pocket preset, as far as a method has such settings (`known`, their names)."""
    if all(task.kind == "object" for task in tasks):
        return {}
    return {name: value for name, value in BROAD_SETTINGS.items() if name in known}


def category_task(
    concepts: Concepts,
    denoiser: Denoiser,
    category: str,
    *,
    anchor: str | None = None,
    retain: Sequence[str] | None = None,
    seed: int = 0,
) -> Task:
    """Erase a category ("animal", the pocket's stand-in for nudity): its word and every object of it, one concept.

    `retain` names what to keep; None is half of the objects outside, drawn by the seed. Without an `anchor` the nearest
    other category's word is drawn in its place. No sheets: no single class is right, `benchmark pocket` scores it.
    """
    phrase = concepts.categories[category]
    others = [c for c in concepts.drawn if c.category != category]
    retained = tuple(
        random.Random(f"retain/{seed}").sample(others, len(others) // 2)
        if retain is None
        else [_drawn(concepts, other) for other in retain]
    )
    if anchor is None:
        anchor = nearest(denoiser, phrase, [p for word, p in concepts.categories.items() if word != category])
    members = tuple(c.phrase for c in concepts.members(category))
    target = Target(phrase, anchor, members, concepts.object_templates)
    request = Request((target,), tuple(c.phrase for c in retained), seed)
    return Task("category", category, target.anchor, tuple(c.name for c in retained), request)


def category_of(concepts: Concepts, text: str) -> str | None:
    """The category that a word or phrase names ("animal", "an animal"), or None."""
    wanted = without_article(text.strip().lower())
    return wanted if wanted in concepts.categories else None


def task_of(concepts: Concepts, denoiser: Denoiser, erasure: Erasure, index: int, n: int) -> Task:
    """The task of target `index` of an erasure, from the erasure's metadata: to score a file that someone shared."""
    request = Request.from_facts(json.loads(erasure.fact("request")))
    target = request.targets[index]
    if category_of(concepts, target.concept) is not None:
        raise RequestError(
            f"{target.concept!r} is a category, of which no single object is right: score it with "
            "`python -m eraser_core benchmark pocket`"
        )
    if target.concept in concepts.styles:
        kept = [s for s in concepts.styles if any(s in split_words(prompt) for prompt in request.retain)]
        return style_task(concepts, denoiser, target.concept, anchor=target.anchor, retain=kept, seed=request.seed, n=n)
    others = [t.concept for i, t in enumerate(request.targets) if i != index]
    # A style erased in the same run retains prompts of whole captions.
    retained = [c.name for c in map(concepts.find, request.retain) if c is not None]
    return object_task(
        concepts,
        denoiser,
        target.concept,
        anchor=target.anchor,
        retain=retained,
        erased_too=others,
        seed=request.seed,
        n=n,
    )


def tasks_for(
    concepts: Concepts,
    denoiser: Denoiser,
    wanted: Sequence[tuple[str, Sequence[str]]],
    anchors: Sequence[str | None],
    retain: Sequence[str] | None,
    *,
    seed: int,
    n: int,
) -> list[Task]:
    """The tasks of one run's (concept, synonyms): objects, styles and categories.

    Names to `retain` are for the concepts of their kind, styles or objects; a kind of which none is named keeps what it
    keeps by itself. An empty `retain` keeps nothing.
    """
    styles = objects = retain
    if retain:
        styles = [name for name in retain if name in concepts.styles] or None
        objects = [name for name in retain if name not in concepts.styles] or None
    tasks = []
    for (name, synonyms), anchor in zip(wanted, anchors, strict=True):
        category = category_of(concepts, name)
        if name in concepts.styles:
            task = style_task(concepts, denoiser, name, anchor=anchor, retain=styles, seed=seed, n=n)
        elif category is not None:
            task = category_task(concepts, denoiser, category, anchor=anchor, retain=objects, seed=seed)
        else:
            others = [other for other, _ in wanted if other != name]
            task = object_task(
                concepts,
                denoiser,
                name,
                anchor=anchor,
                retain=objects,
                synonyms=synonyms,
                erased_too=others,
                seed=seed,
                n=n,
            )
        tasks.append(task)
    return tasks


def together(tasks: Sequence[Task], seed: int) -> Request:
    """The request of one run of several tasks: what one of them erases, none of them retains or names in its templates."""
    targets = [task.request.targets[0] for task in tasks]
    erased = {c_e.lower() for target in targets for c_e, _ in target.pairs()}
    retain = dict.fromkeys(p for task in tasks for p in task.request.retain if p.lower() not in erased)
    return Request(tuple(_without_others(target, targets) for target in targets), tuple(retain), seed)


def _without_others(target: Target, targets: Sequence[Target]) -> Target:
    """The target without the templates that name another one: "a {} in ink style", where ink is erased too."""
    others = [phrase for other in targets if other is not target for phrase in (other.concept, *other.synonyms)]
    left = tuple(t for t in target.templates if not any(says(t, phrase) for phrase in others))
    return replace(target, templates=left or target.templates)


def _objects_of(concepts: Concepts, name: str) -> Sequence[Concept]:
    """The objects that erasing something takes away: none of a style, all of a category."""
    if name in concepts.styles:
        return ()
    category = category_of(concepts, name)
    return (_drawn(concepts, name),) if category is None else concepts.members(category)


def _drawn(concepts: Concepts, name: str) -> Concept:
    concept = concepts.find(name)
    if concept is None or concept not in concepts.drawn:
        raise RequestError(
            f"the pocket model draws no {name!r}: `python -m eraser_core info --model pocket` lists what it draws"
            f"{concepts.near(name)}"
        )
    return concept


def questions(concepts: Concepts, pairs: Sequence[tuple[Concept, str]], n: int, first: int) -> tuple[Question, ...]:
    """n questions, evenly over (object, phrase) pairs and then over scoring templates and styles seen together."""
    if not pairs:
        return ()
    scoring = concepts.scoring
    found = []
    for i in range(n):
        concept, phrase = pairs[i % len(pairs)]
        styles = [None, *(s for s in concepts.styles if (concept.name, s) not in concepts.held_out_pairs)]
        turn = i // len(pairs) + i % len(pairs)
        style, form = styles[turn % len(styles)], turn // len(styles) % 3
        template = (scoring.object if style is None else scoring.object_style)[form]
        prompt = template.replace("{phrase}", phrase).replace("{style}", style or "")
        found.append(Question(prompt, "object", concept.name, first + i))
    return tuple(found)


def style_questions(
    concepts: Concepts, objects: Sequence[Concept], pairs: Sequence[tuple[str, str]], n: int, first: int
) -> tuple[Question, ...]:
    """n questions, evenly over objects and (style, word) pairs in turn, without pairs never seen together."""
    forms = concepts.scoring.object_style
    every = [
        (style, forms[(i + j) % len(forms)].replace("{phrase}", c.phrase).replace("{style}", word))
        for i, c in enumerate(objects)
        for j, (style, word) in enumerate(pairs)
        if (c.name, style) not in concepts.held_out_pairs
    ]
    return tuple(
        Question(every[i % len(every)][1], "style", every[i % len(every)][0], first + i)
        for i in range(n if every else 0)
    )
