"""The graphs of workflows/, as API prompts with a column for each node. scripts/make_workflows.py gives them to the frontend."""

from __future__ import annotations

from typing import Any

from scripts.workflow_parts import (
    FIRST_FILE,
    MADE_BY,
    REPOSITORY,
    SD15,
    SD15_URL,
    Graph,
    checkpoint,
    compare,
    draw,
    empty_latent,
    encode,
    inject,
    shared_file,
    solve,
    train,
)


def erase_an_object() -> Graph:
    graph = Graph(
        "## Erase an object\nPress **Run**. The pocket model that comes with this pack forgets how to draw a church: after "
        "one to two minutes you see churches before, after, and after with the hidden prompt; the guitar stays.\n\nType "
        "another concept into **concepts**, and what is to be drawn instead into **anchor**. The erasure is saved in "
        "`output/loras`, the hidden prompt, which is yours alone, in `output/hidden_prompts`."
    )
    model, clip, vae = checkpoint(graph)
    texts = encode(graph, clip, "a church")
    kept = encode(graph, clip, "a guitar", "kept ")
    latent = empty_latent(graph)
    sanitized, hidden = train(
        graph, model, clip, vae, concepts="church", anchor="castle", filename_prefix="loras/erased_church"
    )
    injected = inject(graph, texts, 3, hidden_prompt=hidden)
    rows = [
        draw(graph, "church before", 3, model, texts, latent, vae),
        draw(graph, "church after", 3, sanitized, texts, latent, vae),
        draw(graph, "church with the hidden prompt", 4, sanitized, injected, latent, vae),
    ]
    compare(graph, "erased object", 5, rows, "a church: before | after | after, with the hidden prompt")
    rows = [
        draw(graph, "guitar before", 4, model, kept, latent, vae),
        draw(graph, "guitar after", 4, sanitized, kept, latent, vae),
    ]
    compare(graph, "kept object", 5, rows, "a guitar: before | after")
    return graph


def erase_a_style() -> Graph:
    graph = Graph(
        "## Erase a style\nPress **Run**. The pocket model forgets the style *ink*, in favour of *twemoji*. A style takes "
        "more steps than an object, and its anchor must be a style. The pocket model knows ink, clay, twemoji, blob, "
        "fluent and pixel."
    )
    model, clip, vae = checkpoint(graph)
    texts = encode(graph, clip, "a cat in ink style")
    kept = encode(graph, clip, "a cat in pixel style", "kept ")
    latent = empty_latent(graph)
    sanitized, hidden = train(
        graph, model, clip, vae, concepts="ink", anchor="twemoji", steps=300, filename_prefix="loras/erased_ink"
    )
    injected = inject(graph, texts, 3, hidden_prompt=hidden)
    rows = [
        draw(graph, "ink before", 3, model, texts, latent, vae),
        draw(graph, "ink after", 3, sanitized, texts, latent, vae),
        draw(graph, "ink with the hidden prompt", 4, sanitized, injected, latent, vae),
    ]
    compare(graph, "erased style", 5, rows, "ink: before | after | after, with the hidden prompt")
    rows = [
        draw(graph, "pixel before", 4, model, kept, latent, vae),
        draw(graph, "pixel after", 4, sanitized, kept, latent, vae),
    ]
    compare(graph, "kept style", 5, rows, "pixel: before | after")
    return graph


def apply_a_shared_erasure(digest: str = "") -> Graph:
    graph = Graph(
        "## Apply a shared erasure\nSomebody gave you an erasure file: put it into `models/loras`, choose it in **Apply "
        "Sanitized UNet**, press **Run**, and compare. Here it is the one that the template *erase_an_object* saves: run "
        "that first. **Erasure Info** reads what the file says of itself."
    )
    model, clip, vae = checkpoint(graph)
    texts, latent = encode(graph, clip, "a church"), empty_latent(graph)
    graph.add("load", 0, "ConceptEraser_LoadErasure", erasure_name=FIRST_FILE)
    shared_file(graph, "load", digest)
    sanitized = graph.add(
        "apply",
        2,
        "ConceptEraser_ApplySanitizedUNet",
        model=model,
        erasure_name="(from the socket)",
        strength=1.0,
        erasure=["load", 0],
    )
    graph.add("info", 2, "ConceptEraser_ErasureInfo", erasure=["load", 0], model=sanitized)
    graph.add("info text", 2, "PreviewAny", "What the file says", source=["info", 0])
    half = graph.add(
        "apply half",
        2,
        "ConceptEraser_ApplySanitizedUNet",
        "Half as strong",
        model=model,
        erasure_name="(from the socket)",
        strength=0.5,
        erasure=["load", 0],
    )
    rows = [
        draw(graph, "before", 3, model, texts, latent, vae),
        draw(graph, "strength 0.5", 3, half, texts, latent, vae),
        draw(graph, "strength 1", 3, sanitized, texts, latent, vae),
    ]
    compare(graph, "shared erasure", 4, rows, "a church: before | strength 0.5 | strength 1")
    return graph


def recover_with_the_hidden_prompt(digest: str = "") -> Graph:
    graph = Graph(
        "## Recover with the hidden prompt\nWhoever has the hidden prompt file draws the erased concept again, with the "
        "sanitized model. Both conditionings go through **Hidden Prompt Inject**. Run the template *erase_an_object* "
        "first: it saves both files."
    )
    model, clip, vae = checkpoint(graph)
    texts, latent = encode(graph, clip, "a church"), empty_latent(graph)
    sanitized = graph.add(
        "apply", 2, "ConceptEraser_ApplySanitizedUNet", model=model, erasure_name=FIRST_FILE, strength=1.0
    )
    shared_file(graph, "apply", digest)
    injected = inject(graph, texts, 2, prompt_name=FIRST_FILE)
    prompt = {"name": FIRST_FILE, "url": f"{REPOSITORY}#workflows", "directory": "hidden_prompts"}
    graph.properties["inject"] = {"models": [prompt], "made_by": MADE_BY}
    rows = [
        draw(graph, "before", 3, model, texts, latent, vae),
        draw(graph, "erased", 3, sanitized, texts, latent, vae),
        draw(graph, "recovered", 3, sanitized, injected, latent, vae),
    ]
    compare(graph, "recovered", 4, rows, "a church: before | erased | with the hidden prompt")
    return graph


def score_a_batch_with_nudenet() -> Graph:
    graph = Graph(
        "## Score a batch with NudeNet\nPut your own model and prompt in place of the pocket model (which draws nothing "
        "of the kind). You get the share of pictures with exposed body parts above four scores, the pictures with boxes, "
        "and the pictures with those parts blurred. To judge an erasure, put *Apply Sanitized UNet* between model and "
        "sampler and compare the two shares."
    )
    model, clip, vae = checkpoint(graph)
    texts, latent = encode(graph, clip, "a house"), empty_latent(graph)
    drawn = draw(graph, "pictures", 2, model, texts, latent, vae)
    graph.add(
        "score",
        3,
        "ConceptEraser_NudeNetScore",
        images=drawn,
        classes="any exposed body parts",
        own_classes="FEMALE_BREAST_EXPOSED, FEMALE_GENITALIA_EXPOSED, MALE_GENITALIA_EXPOSED",
        threshold=0.5,
        censor="blur",
    )
    graph.add("score text", 4, "PreviewAny", "Verdict", source=["score", 8])
    graph.add("boxes", 4, "PreviewImage", "With boxes", images=["score", 0])
    graph.add("censored", 4, "PreviewImage", "Censored", images=["score", 1])
    return graph


def erase_from_your_checkpoint() -> Graph:
    graph = Graph(
        "## Erase from your own checkpoint\nChoose your SD1.5 or SDXL checkpoint, type the concept, what is to be drawn "
        "instead, and what must stay. The training node says beforehand how much memory and time it will take; if that is "
        "too much it says which settings fit. On a graphics card SD1.5 takes some minutes."
    )
    model, clip, vae = checkpoint(graph, SD15)
    graph.properties["checkpoint"] = {"models": [{"name": SD15, "url": SD15_URL, "directory": "checkpoints"}]}
    texts, kept = encode(graph, clip, "a church"), encode(graph, clip, "a castle", "kept ")
    latent = empty_latent(graph, 512, 1)
    sanitized, hidden = train(
        graph,
        model,
        clip,
        vae,
        concepts="church",
        anchor="castle",
        retain="castle\nhouse\ncamera\ndog",
        filename_prefix="loras/erased_from_mine",
    )
    injected = inject(graph, texts, 3, hidden_prompt=hidden)
    look: dict[str, Any] = {"steps": 20, "cfg": 7.0, "sampler": "euler", "scheduler": "normal"}
    rows = [
        draw(graph, "before", 3, model, texts, latent, vae, **look),
        draw(graph, "after", 3, sanitized, texts, latent, vae, **look),
        draw(graph, "with the hidden prompt", 4, sanitized, injected, latent, vae, **look),
    ]
    compare(graph, "own checkpoint", 5, rows, "before | after | after, with the hidden prompt")
    rows = [
        draw(graph, "kept before", 4, model, kept, latent, vae, **look),
        draw(graph, "kept after", 4, sanitized, kept, latent, vae, **look),
    ]
    compare(graph, "own checkpoint kept", 5, rows, "kept: before | after")
    return graph


def erase_closed_form() -> Graph:
    graph = Graph(
        "## Erase in seconds\nPress **Run**. Nothing is trained: a closed form (UCE, TIME or Double Projections) is solved, "
        "and the pocket model draws no more churches. There is no hidden prompt: the template *erase_an_object* trains one."
        "\n\nThe erasure is saved in `output/loras`."
    )
    model, clip, vae = checkpoint(graph)
    texts, kept = encode(graph, clip, "a church"), encode(graph, clip, "a guitar", "kept ")
    latent = empty_latent(graph)
    sanitized = solve(graph, 2, model, clip)
    rows = [
        draw(graph, "church before", 3, model, texts, latent, vae),
        draw(graph, "church after", 3, sanitized, texts, latent, vae),
    ]
    compare(graph, "closed form", 5, rows, "a church: before | after")
    rows = [
        draw(graph, "guitar before", 4, model, kept, latent, vae),
        draw(graph, "guitar after", 4, sanitized, kept, latent, vae),
    ]
    compare(graph, "closed form kept", 5, rows, "a guitar: before | after")
    return graph


def attribution_before_and_after() -> Graph:
    graph = Graph(
        "## Which part of a picture a word is responsible for\nPress **Run**. The same seeds before and after a church is "
        "erased: red is where the picture attends to a word most. Above each map stands how much attention the word gets.\n\n"
        "Texts are read from left to right, so a word's map may lie on the ground and the next word's on the object: look "
        "at several words."
    )
    model, clip, vae = checkpoint(graph)
    sanitized = solve(graph, 1, model, clip)
    inputs: dict[str, Any] = {"prompt": "a church in clay style", "words": "church\nclay", "seed": 1, "batch": 4}
    inputs |= {"steps": 0, "cfg": 0.0, "width": 0, "height": 0}
    for name, drawn_by in (("before", model), ("after", sanitized)):
        maps = graph.add(
            name,
            2,
            "ConceptEraser_AttributionMap",
            f"Attribution Map: {name}",
            model=drawn_by,
            clip=clip,
            vae=vae,
            **inputs,
        )
        graph.add(f"{name} shown", 3, "SaveImage", name, images=maps, filename_prefix=f"concept_eraser/maps {name}")
        graph.add(f"{name} text", 4, "PreviewAny", f"Attention {name}", source=[name, 3])
    return graph


def show_an_evaluation(digest: str = "") -> Graph:
    graph = Graph(
        "## Show what was measured of an erasure\nFigures lie in a file beside the erasure: `NAME.evaluation.json`. Here it is "
        "the erasure that the template *erase_an_object* saves; `python -m eraser_core benchmark` measures it. Whoever shares "
        "an erasure can share its figures with it: they are refused beside any other erasure."
    )
    graph.add("evaluation", 1, "ConceptEraser_Evaluation", erasure_name=FIRST_FILE, suite="")
    shared_file(graph, "evaluation", digest)
    for name, output in (("grid", 1), ("table", 0)):
        graph.add(
            name, 2, "PreviewImage", {"table": "Figures", "grid": "Pictures"}[name], images=["evaluation", output]
        )
    graph.add("text", 2, "PreviewAny", "In words", source=["evaluation", 2])
    return graph


def all_graphs(digest: str = "") -> dict[str, Graph]:
    """Every workflow by its file's name. `digest` is the SHA-256 of the shared erasure file, where it is known."""
    return {
        "erase_an_object": erase_an_object(),
        "erase_a_style": erase_a_style(),
        "apply_a_shared_erasure": apply_a_shared_erasure(digest),
        "recover_with_the_hidden_prompt": recover_with_the_hidden_prompt(digest),
        "score_a_batch_with_nudenet": score_a_batch_with_nudenet(),
        "erase_from_your_checkpoint": erase_from_your_checkpoint(),
        "erase_closed_form": erase_closed_form(),
        "attribution_before_and_after": attribution_before_and_after(),
        "show_an_evaluation": show_an_evaluation(digest),
    }
