"""The graphs of workflows/, as API prompts with a column for each node. scripts/make_workflows.py gives them to the frontend."""

from __future__ import annotations

from typing import Any

from scripts.workflow_many import combine_shared_erasures, opt_out_a_list
from scripts.workflow_parts import (
    COMPARE,
    DRAW,
    ERASE,
    EULER,
    EXAMPLE,
    FLUX,
    FLUX_URL,
    INJECT,
    START,
    TEXTS,
    Graph,
    Link,
    checkpoint,
    compare,
    draw,
    empty_latent,
    encode,
    inject,
    shared_file,
    solve,
)
from scripts.workflow_trained import (
    erase_a_style,
    erase_an_object,
    erase_an_object_from_a_transformer,
    erase_from_your_checkpoint,
)


def apply_a_shared_erasure(digest: str = "") -> Graph:
    graph = Graph(
        "## Apply a shared erasure\nPress **Run**. The erasure file comes with this pack, as an example: it hides the guitar. "
        "Somebody else's goes into `models/loras`: choose it in **Load Erasure**, and compare. **Erasure Info** reads what "
        "the file says of itself."
    )
    model, clip, vae = checkpoint(graph)
    graph.add("load", START, "ConceptEraser_LoadErasure", erasure_name=EXAMPLE)
    shared_file(graph, "load", digest)
    texts, latent = encode(graph, clip, "a guitar"), empty_latent(graph)
    graph.section("Apply")
    applied: dict[str, Any] = {"model": model, "erasure_name": "(from the socket)", "erasure": ["load", 0]}
    half = graph.add("apply half", ERASE, "ConceptEraser_ApplySanitizedUNet", "Half as strong", strength=0.5, **applied)
    sanitized = graph.add("apply", ERASE, "ConceptEraser_ApplySanitizedUNet", strength=1.0, **applied)
    graph.section("Read the file")
    graph.add("info", INJECT, "ConceptEraser_ErasureInfo", erasure=["load", 0], model=sanitized)
    graph.section("What the file says", 1)
    graph.add("info text", DRAW, "PreviewAny", "What the file says", source=["info", 0])
    graph.section("Draw")
    rows = [
        draw(graph, "before", DRAW, model, texts, latent, vae),
        draw(graph, "strength 0.5", DRAW, half, texts, latent, vae),
        draw(graph, "strength 1", DRAW, sanitized, texts, latent, vae),
    ]
    graph.section("Compare")
    compare(graph, "shared erasure", COMPARE, rows, "a guitar: before | strength 0.5 | strength 1")
    return graph


def recover_with_the_hidden_prompt(digest: str = "") -> Graph:
    graph = Graph(
        "## Recover with the hidden prompt\nPress **Run**. Whoever has the hidden prompt file draws the erased concept again, "
        "with the sanitized model: the text goes through **Hidden Prompt Inject**. Both files come with this pack. This "
        "hidden prompt is public, as an example: keep your own private."
    )
    model, clip, vae = checkpoint(graph)
    texts, latent = encode(graph, clip, "a guitar"), empty_latent(graph)
    graph.section("Apply")
    sanitized = graph.add(
        "apply", ERASE, "ConceptEraser_ApplySanitizedUNet", model=model, erasure_name=EXAMPLE, strength=1.0
    )
    shared_file(graph, "apply", digest)
    injected = inject(graph, texts, prompt_name=EXAMPLE)
    shared_file(graph, "inject", "", "hidden_prompts")
    graph.section("Draw")
    rows = [
        draw(graph, "before", DRAW, model, texts, latent, vae),
        draw(graph, "erased", DRAW, sanitized, texts, latent, vae),
        draw(graph, "recovered", DRAW, sanitized, injected, latent, vae),
    ]
    graph.section("Compare")
    compare(graph, "recovered", COMPARE, rows, "a guitar: before | erased | with the hidden prompt")
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
    graph.section("Draw")
    drawn = draw(graph, "pictures", ERASE, model, texts, latent, vae)
    graph.section("Score")
    graph.add(
        "score",
        DRAW,
        "ConceptEraser_NudeNetScore",
        images=drawn,
        classes="any exposed body parts",
        own_classes="FEMALE_BREAST_EXPOSED, FEMALE_GENITALIA_EXPOSED, MALE_GENITALIA_EXPOSED",
        threshold=0.5,
        censor="blur",
    )
    graph.section("Verdict")
    graph.add("score text", DRAW + 1, "PreviewAny", "Verdict", source=["score", 8])
    graph.add("boxes", DRAW + 1, "PreviewImage", "With boxes", images=["score", 0])
    graph.add("censored", DRAW + 1, "PreviewImage", "Censored", images=["score", 1])
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
    sanitized = solve(graph, model, clip)
    graph.section("Draw the erased concept")
    rows = [
        draw(graph, "church before", DRAW, model, texts, latent, vae),
        draw(graph, "church after", DRAW, sanitized, texts, latent, vae),
    ]
    graph.section("Compare: erased")
    compare(graph, "closed form", COMPARE, rows, "a church: before | after")
    graph.section("Draw what is kept", 1)
    rows = [
        draw(graph, "guitar before", DRAW, model, kept, latent, vae),
        draw(graph, "guitar after", DRAW, sanitized, kept, latent, vae),
    ]
    graph.section("Compare: kept", 1)
    compare(graph, "closed form kept", COMPARE, rows, "a guitar: before | after")
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


def attribution_before_and_after() -> Graph:
    graph = Graph(
        "## Which part of a picture a word is responsible for\nPress **Run**. The same seeds before and after a church is "
        "erased: red is where the picture attends to a word most. Above each map stands how much attention the word gets.\n\n"
        "Texts are read from left to right, so a word's map may lie on the ground and the next word's on the object: look "
        "at several words."
    )
    model, clip, vae = checkpoint(graph)
    sanitized = solve(graph, model, clip)
    inputs: dict[str, Any] = {"prompt": "a church in clay style", "words": "church\nclay", "seed": 1, "batch": 4}
    inputs |= {"steps": 0, "cfg": 0.0, "width": 0, "height": 0}
    for band, (name, drawn_by) in enumerate((("before", model), ("after", sanitized))):
        graph.section(f"Attention {name}", band)
        maps = graph.add(
            name,
            INJECT,
            "ConceptEraser_AttributionMap",
            f"Attribution Map: {name}",
            model=drawn_by,
            clip=clip,
            vae=vae,
            **inputs,
        )
        graph.add(f"{name} shown", DRAW, "SaveImage", name, images=maps, filename_prefix=f"concept_eraser/maps {name}")
        graph.add(f"{name} text", DRAW + 1, "PreviewAny", f"Attention {name}", source=[name, 3])
    return graph


def show_an_evaluation(digest: str = "") -> Graph:
    graph = Graph(
        "## Show what was measured of an erasure\nPress **Run**. Figures lie in a file beside the erasure: "
        "`NAME.evaluation.json`. This one comes with the pack; `python -m eraser_core benchmark` measures your own. Whoever "
        "shares an erasure can share its figures with it: they are refused beside any other erasure."
    )
    graph.section("Measured")
    graph.add("evaluation", TEXTS, "ConceptEraser_Evaluation", erasure_name=EXAMPLE, suite="")
    shared_file(graph, "evaluation", digest)
    graph.section("Figures and pictures")
    graph.add("grid", ERASE, "PreviewImage", "Pictures", images=["evaluation", 1])
    graph.add("table", INJECT, "PreviewImage", "Figures", images=["evaluation", 0])
    graph.add("text", DRAW, "PreviewAny", "In words", source=["evaluation", 2])
    return graph


def audit_an_erasure(digest: str = "") -> Graph:
    graph = Graph(
        "## Audit an erasure\nPress **Run**. Two attacks try to bring the guitar back that the pack's example hides: a negative "
        "prompt, which everybody can type, and algebra from the file alone. The pictures show the "
        "guitar asked for by its name, and each attack's strongest way, before and after the erasure. The verdict says it in words.\n\nFour pictures a figure say little: take 16, and "
        "**attacks** *quick* or *all*, for your own. All pictures and figures are on a page in `output/audits`. What you cancel "
        "goes on when you press Run again."
    )
    model, clip, vae = checkpoint(graph)
    graph.section("Attack")
    values = {"attacks": "chosen", "chosen": "negative\nalgebra", "concept": "", "images": 4, "seed": 0, "anchor": ""}
    values |= {"steps": 8, "folder_prefix": "audits/audit", "second_lora": "(none)"}
    inputs: dict[str, Any] = {"model": model, "clip": clip, "vae": vae, "erasure_name": EXAMPLE, **values}
    graph.add("audit", TEXTS, "ConceptEraser_AuditErasure", **inputs)
    shared_file(graph, "audit", digest)
    graph.section("What brings it back")
    graph.add("verdict", ERASE, "PreviewAny", "Verdict", source=["audit", 1])
    graph.add("shown", ERASE, "SaveImage", "Result", images=["audit", 0], filename_prefix="concept_eraser/audit")
    return graph


def all_graphs(digest: str = "") -> dict[str, Graph]:
    """Every workflow by its file's name. `digest` is the SHA-256 of the shared erasure file, where it is known."""
    return {
        "erase_an_object": erase_an_object(),
        "erase_an_object_from_a_transformer": erase_an_object_from_a_transformer(),
        "erase_with_flux": erase_with_flux(),
        "erase_a_style": erase_a_style(),
        "apply_a_shared_erasure": apply_a_shared_erasure(digest),
        "recover_with_the_hidden_prompt": recover_with_the_hidden_prompt(digest),
        "score_a_batch_with_nudenet": score_a_batch_with_nudenet(),
        "erase_from_your_checkpoint": erase_from_your_checkpoint(),
        "erase_closed_form": erase_closed_form(),
        "combine_shared_erasures": combine_shared_erasures(digest),
        "opt_out_a_list": opt_out_a_list(),
        "attribution_before_and_after": attribution_before_and_after(),
        "show_an_evaluation": show_an_evaluation(digest),
        "audit_an_erasure": audit_an_erasure(digest),
    }
