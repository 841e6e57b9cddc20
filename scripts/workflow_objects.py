"""The graphs of workflows/ that erase an object: from either pocket model, and from Flux.1."""

from __future__ import annotations

from typing import Any

from scripts.workflow_parts import (
    COMPARE,
    DRAW,
    FLUX,
    FLUX_URL,
    TEXTS,
    Graph,
    Link,
    checkpoint,
    compare,
    draw,
    empty_latent,
    encode,
    inject,
    solve,
    train,
)

EULER: dict[str, Any] = {"sampler": "euler", "scheduler": "simple"}


def erase_an_object() -> Graph:
    graph = Graph(
        "## Erase an object\nPress **Run**. The pocket model that comes with this pack forgets how to draw a church: after "
        "one to two minutes you see churches before, after, and after with the hidden prompt; the guitar stays.\n\nType "
        "another concept into **concepts**, and what is to be drawn instead into **anchor**. The erasure is saved in "
        "`output/loras`, the hidden prompt, which is yours alone, in `output/hidden_prompts`."
    )
    return _object(graph, "pocket.safetensors", "object", "loras/erased_church")


def erase_an_object_from_a_transformer() -> Graph:
    graph = Graph(
        "## Erase an object from a transformer\nPress **Run**. It is the graph of *erase_an_object* on the second pocket model, "
        "a transformer that was trained by flow matching, as Flux and Z-Image are. Text enters it by one matrix, and the "
        "erasure changes that matrix alone. So the file is small."
    )
    return _object(graph, "pocket_flow.safetensors", "object of a transformer", "loras/erased_church_flow", **EULER)


def _object(graph: Graph, file: str, name: str, prefix: str, **look: Any) -> Graph:
    model, clip, vae = checkpoint(graph, file)
    texts = encode(graph, clip, "a church")
    kept = encode(graph, clip, "a guitar", "kept ")
    latent = empty_latent(graph)
    sanitized, hidden = train(graph, model, clip, vae, concepts="church", anchor="castle", filename_prefix=prefix)
    injected = inject(graph, texts, hidden_prompt=hidden)
    graph.section("Draw the erased concept", fold=True)
    rows = [
        draw(graph, "church before", DRAW, model, texts, latent, vae, **look),
        draw(graph, "church after", DRAW, sanitized, texts, latent, vae, **look),
        draw(graph, "church with the hidden prompt", DRAW, sanitized, injected, latent, vae, **look),
    ]
    graph.section("Compare: erased")
    compare(graph, f"erased {name}", COMPARE, rows, "a church: before | after | after, with the hidden prompt")
    graph.section("Draw what is kept", 1, fold=True)
    rows = [
        draw(graph, "guitar before", DRAW, model, kept, latent, vae, **look),
        draw(graph, "guitar after", DRAW, sanitized, kept, latent, vae, **look),
    ]
    graph.section("Compare: kept", 1)
    compare(graph, f"kept {name}", COMPARE, rows, "a guitar: before | after")
    return graph


def erase_with_flux() -> Graph:
    graph = Graph(
        "## Erase from Flux.1\nChoose your Flux.1 checkpoint. For Z-Image or Qwen-Image put their loaders in place of *Load "
        "Checkpoint*, take *Flux Guidance* out, and set **cfg** in the two boxes that draw. Nothing is trained: the closed form "
        "changes the one matrix by which text enters, and the file is under 1 MB.\n\nNo real checkpoint of these has been tried "
        "by us yet. Look at what you get, and tell us."
    )
    model, clip, vae = checkpoint(graph, FLUX)
    graph.properties["checkpoint"] = {"models": [{"name": FLUX, "url": FLUX_URL, "directory": "checkpoints"}]}
    texts, kept = encode(graph, clip, "a church"), encode(graph, clip, "a guitar", "kept ")
    size: dict[str, Any] = {"width": 1024, "height": 1024, "batch_size": 1}
    latent = graph.add("latent", TEXTS, "EmptySD3LatentImage", **size)
    sanitized = solve(graph, model, clip)
    graph.section("Guidance")
    texts, kept = _guided(graph, "church", texts), _guided(graph, "guitar", kept)
    look: dict[str, Any] = {"steps": 20, "cfg": 1.0, **EULER}
    for band, (name, drawn, title) in enumerate(
        (("church", texts, "erased concept"), ("guitar", kept, "kept concept"))
    ):
        graph.section(f"Draw the {title}", band, fold=True)
        models = (("before", model), ("after", sanitized))
        rows = [draw(graph, f"{name} {when}", DRAW, m, drawn, latent, vae, **look) for when, m in models]
        graph.section(f"Compare: {title}", band)
        compare(graph, f"flux {name}", COMPARE, rows, f"a {name}: before | after")
    return graph


def _guided(graph: Graph, name: str, texts: tuple[Link, Link]) -> tuple[Link, Link]:
    """Flux.1 is told its guidance scale as a number."""
    values: dict[str, Any] = {"conditioning": texts[0], "guidance": 3.5}
    return graph.add(f"{name} guidance", DRAW - 1, "FluxGuidance", **values), texts[1]
