"""The graphs of workflows/ with several concepts: shared files combined, and a list of opt-outs."""

from __future__ import annotations

from typing import Any

from scripts.workflow_parts import (
    COMPARE,
    DRAW,
    ERASE,
    EXAMPLE,
    INJECT,
    Graph,
    Link,
    checkpoint,
    compare,
    draw,
    empty_latent,
    encode,
    shared_file,
)


def combine_shared_erasures(digest: str = "") -> Graph:
    graph = Graph(
        "## Several erasures in one\nPress **Run**. The guitar's erasure comes with the pack, the church's and the dog's are "
        "solved here, as if they came from somebody else. *Combine Erasures* makes one file of the three. Erasures that are "
        "only stacked harm what none of them erases; the combined one leaves it as it is.\n\nAdd files of your own in "
        "**erasure_names**, one a line. All of them have to be made for this model."
    )
    model, clip, vae = checkpoint(graph)
    graph.section("Somebody's erasures")
    church, dog = (_solved(graph, name, anchor, model, clip) for name, anchor in (("church", "castle"), ("dog", "cat")))
    latent = empty_latent(graph)
    texts = {name: encode(graph, clip, f"a {name}", f"{name} ") for name in ("guitar", "church", "dog", "truck")}
    graph.section("Combine")
    values = {"erasure_names": EXAMPLE, "kept": 3.0, "precision": "fp16", "filename_prefix": "loras/combined"}
    graph.add(
        "combine",
        INJECT,
        "ConceptEraser_CombineErasures",
        model=model,
        clip=clip,
        erasure_1=church,
        erasure_2=dog,
        **values,
    )
    shared_file(graph, "combine", digest)
    graph.section("Draw all of them")
    rows = [draw(graph, f"{n} after", DRAW, ["combine", 0], texts[n], latent, vae) for n in ("guitar", "church", "dog")]
    graph.section("Compare: erased")
    compare(graph, "combined", COMPARE, rows, "after: a guitar | a church | a dog")
    graph.section("Draw what is kept", 1)
    rows = [draw(graph, f"truck {n}", DRAW, m, texts["truck"], latent, vae) for n, m in _two(model, ["combine", 0])]
    graph.section("Compare: kept", 1)
    compare(graph, "combined kept", COMPARE, rows, "a truck: before | after")
    return graph


def opt_out_a_list() -> Graph:
    graph = Graph(
        "## A list of opt-outs\nPress **Run**. Every line of **concepts** is erased at once, in seconds: two objects and a "
        "style, each with its anchor in the same line of **anchor**. What is on no list stays.\n\nFor a register with "
        "reasons and dates, for hundreds of names, or every night: `python -m eraser_core optout`; see docs/opting_out.md."
    )
    model, clip, vae = checkpoint(graph)
    latent = empty_latent(graph)
    prompts = {"guitar": "a guitar", "dog": "a dog", "ink": "a cat in ink style", "truck": "a truck"}
    texts = {name: encode(graph, clip, prompt, f"{name} ") for name, prompt in prompts.items()}
    graph.section("Erase")
    words = {"concepts": "guitar\ndog | puppy\nink", "anchor": "violin\ncat\ntwemoji", "retain": ""}
    inputs = {"model": model, "clip": clip, "method": "UCE", "precision": "fp16", "filename_prefix": "loras/opted_out"}
    erased = graph.add("solve", ERASE, "ConceptEraser_EraseClosedForm", "Opt out", **inputs, **words)
    for band, name in enumerate(("guitar", "dog", "ink", "truck")):
        graph.section(f"Draw: {prompts[name]}", band, fold=True)
        rows = [draw(graph, f"{name} {n}", DRAW, m, texts[name], latent, vae) for n, m in _two(model, erased)]
        graph.section(f"Compare: {prompts[name]}", band)
        compare(graph, f"opted out {name}", COMPARE, rows, f"{prompts[name]}: before | after")
    return graph


def _two(before: Link, after: Link) -> tuple[tuple[str, Link], tuple[str, Link]]:
    return ("before", before), ("after", after)


def _solved(graph: Graph, name: str, anchor: str, model: Link, clip: Link) -> Link:
    """The erasure of a closed form."""
    words: dict[str, Any] = {"concepts": name, "anchor": anchor, "retain": "", "filename_prefix": f"loras/{name}"}
    inputs: dict[str, Any] = {"model": model, "clip": clip, "method": "UCE", "precision": "fp16", **words}
    graph.add(f"solve {name}", ERASE, "ConceptEraser_EraseClosedForm", f"Erase: {name}", **inputs)
    return [f"solve {name}", 1]
