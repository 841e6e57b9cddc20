"""The graphs of workflows/ that train: an object from either pocket model, a style, and from one's own checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scripts.workflow_parts import (
    COMPARE,
    DRAW,
    EULER,
    SD15,
    SD15_URL,
    Graph,
    checkpoint,
    compare,
    draw,
    empty_latent,
    encode,
    inject,
    train,
)


@dataclass(frozen=True)
class Shown:
    """What is drawn before and after: a word for each of the two rows, its prompt, and the comparison's name and title."""

    word: str
    prompt: str
    name: str
    title: str


@dataclass(frozen=True)
class Look:
    """How pictures are drawn."""

    size: int = 64
    batch: int = 4
    sampling: dict[str, Any] = field(default_factory=dict)


POCKET = Look()
BEFORE_AND_AFTER, BACK = "before | after", "before | after | after, with the hidden prompt"


def _trained(note: str, file: str, erased: Shown, kept: Shown, look: Look, **training: Any) -> Graph:
    """Train, draw the concept before, after and with the hidden prompt, and something that is kept before and after."""
    graph = Graph(note)
    model, clip, vae = checkpoint(graph, file)
    texts, others = encode(graph, clip, erased.prompt), encode(graph, clip, kept.prompt, "kept ")
    latent = empty_latent(graph, look.size, look.batch)
    sanitized, hidden = train(graph, model, clip, vae, **training)
    injected = inject(graph, texts, hidden_prompt=hidden)
    ways = (("before", model, texts), ("after", sanitized, texts), ("with the hidden prompt", sanitized, injected))
    graph.section("Draw what is erased", fold=True)
    rows = [draw(graph, f"{erased.word} {n}", DRAW, m, t, latent, vae, **look.sampling) for n, m, t in ways]
    graph.section("Compare: erased")
    compare(graph, erased.name, COMPARE, rows, f"{erased.title}: {BACK}")
    graph.section("Draw what is kept", 1, fold=True)
    ways = (("before", model, others), ("after", sanitized, others))
    rows = [draw(graph, f"{kept.word} {n}", DRAW, m, t, latent, vae, **look.sampling) for n, m, t in ways]
    graph.section("Compare: kept", 1)
    compare(graph, kept.name, COMPARE, rows, f"{kept.title}: {BEFORE_AND_AFTER}")
    return graph


def erase_an_object() -> Graph:
    return _trained(
        "## Erase an object\nPress **Run**. The pocket model that comes with this pack forgets how to draw a church: after "
        "one to two minutes you see churches before, after, and after with the hidden prompt; the guitar stays.\n\nType "
        "another concept into **concepts**, and what is to be drawn instead into **anchor**. The erasure is saved in "
        "`output/loras`, the hidden prompt, which is yours alone, in `output/hidden_prompts`.",
        "pocket.safetensors",
        Shown("church", "a church", "erased object", "a church"),
        Shown("guitar", "a guitar", "kept object", "a guitar"),
        POCKET,
        concepts="church",
        anchor="castle",
        filename_prefix="loras/erased_church",
    )


def erase_an_object_from_a_transformer() -> Graph:
    return _trained(
        "## Erase an object from a transformer\nPress **Run**. It is the graph of *erase_an_object* on the second pocket model, "
        "a transformer that was trained by flow matching, as Flux and Z-Image are. Text enters it by one matrix, and the "
        "erasure changes that matrix alone. So the file is small.",
        "pocket_flow.safetensors",
        Shown("church", "a church", "erased object of a transformer", "a church"),
        Shown("dog", "a dog", "kept object of a transformer", "a dog"),
        Look(sampling=EULER),
        concepts="church",
        anchor="castle",
        filename_prefix="loras/erased_church_flow",
    )


def erase_a_style() -> Graph:
    return _trained(
        "## Erase a style\nPress **Run**. The pocket model forgets the style *ink*, in favour of *twemoji*. A style takes "
        "more steps than an object, and its anchor must be a style. The pocket model knows ink, clay, twemoji, blob, "
        "fluent and pixel.",
        "pocket.safetensors",
        Shown("ink", "a cat in ink style", "erased style", "ink"),
        Shown("pixel", "a cat in pixel style", "kept style", "pixel"),
        POCKET,
        concepts="ink",
        anchor="twemoji",
        steps=300,
        filename_prefix="loras/erased_ink",
    )


def erase_from_your_checkpoint() -> Graph:
    graph = _trained(
        "## Erase from your own checkpoint\nChoose your SD1.5 or SDXL checkpoint, type the concept, what is to be drawn "
        "instead, and what must stay. The training node says beforehand how much memory and time it will take; if that is "
        "too much it says which settings fit. On a graphics card SD1.5 takes some minutes.",
        SD15,
        Shown("concept", "a church", "own checkpoint", "a church"),
        Shown("anchor", "a castle", "own checkpoint kept", "a castle"),
        Look(512, 1, {"steps": 20, "cfg": 7.0, "sampler": "euler", "scheduler": "normal"}),
        concepts="church",
        anchor="castle",
        retain="castle\nhouse\ncamera\ndog",
        filename_prefix="loras/erased_from_mine",
    )
    graph.properties["checkpoint"] = {"models": [{"name": SD15, "url": SD15_URL, "directory": "checkpoints"}]}
    return graph
