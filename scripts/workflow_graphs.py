"""The graphs of workflows/, as API prompts with a column for each node. scripts/make_workflows.py gives them to the frontend.

Node ids are words; what the reader sees are the titles. `NOTE` nodes are text on the canvas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Link = list[Any]
FIRST_FILE = "erased_church_00001_.safetensors"
REPOSITORY = "https://github.com/concept-eraser/ComfyUI-ConceptEraser"
SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
SD15_URL = f"https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{SD15}"
MADE_BY = "run the template 'erase_an_object', which saves a file of this name"


@dataclass
class Graph:
    """Nodes by id, the column and title of each, properties for some, and the text of the note."""

    note: str
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, column: int, kind: str, title: str = "", /, **inputs: Any) -> Link:
        """Add a node; returns its first output."""
        self.nodes[name] = {"class_type": kind, "inputs": inputs}
        self.columns[name] = column
        if title:
            self.titles[name] = title
        return [name, 0]


def _checkpoint(graph: Graph, name: str = "pocket.safetensors") -> tuple[Link, Link, Link]:
    graph.add("checkpoint", 0, "CheckpointLoaderSimple", ckpt_name=name)
    return ["checkpoint", 0], ["checkpoint", 1], ["checkpoint", 2]


def _texts(graph: Graph, clip: Link, prompt: str, name: str = "", column: int = 1) -> tuple[Link, Link]:
    positive = graph.add(f"{name}positive", column, "CLIPTextEncode", f"Prompt: {prompt}", text=prompt, clip=clip)
    negative = graph.add(f"{name}negative", column, "CLIPTextEncode", "Negative prompt", text="", clip=clip)
    return positive, negative


def _draw(
    graph: Graph,
    name: str,
    column: int,
    model: Link,
    texts: tuple[Link, Link],
    latent: Link,
    vae: Link,
    steps: int = 16,
    cfg: float = 3.0,
    sampler: str = "ddim",
    scheduler: str = "ddim_uniform",
) -> Link:
    """KSampler and VAEDecode; returns the IMAGE."""
    sampled = graph.add(
        f"{name} sampler",
        column,
        "KSampler",
        f"Draw: {name}",
        seed=1,
        steps=steps,
        cfg=cfg,
        sampler_name=sampler,
        scheduler=scheduler,
        denoise=1.0,
        model=model,
        positive=texts[0],
        negative=texts[1],
        latent_image=latent,
    )
    return graph.add(f"{name} decode", column, "VAEDecode", samples=sampled, vae=vae)


def _latent(graph: Graph, size: int = 64, batch: int = 4) -> Link:
    return graph.add("latent", 1, "EmptyLatentImage", width=size, height=size, batch_size=batch)


def _compare(graph: Graph, name: str, column: int, rows: list[Link], labels: str) -> None:
    inputs = dict(zip(("before", "after", "third", "fourth"), rows, strict=False))
    compared = graph.add(name, column, "ConceptEraser_Compare", labels=labels, **inputs)
    graph.add(f"{name} saved", column, "SaveImage", "Result", images=compared, filename_prefix=f"concept_eraser/{name}")


def _kpop(graph: Graph) -> Link:
    settings = {"mechanism": "concatenative", "lambda_": -1.0, "k": -1, "eta": -1.0, "eta_p": -1.0, "guidance": -1.0}
    settings |= {"retain_weight": -1.0, "recovery_target": "erased", "latents": "pool", "latents_from": "frozen"}
    return graph.add("kpop", 0, "ConceptEraser_KPOPSettings", optimizer="adam", null_space=False, **settings)


def _train(graph: Graph, model: Link, clip: Link, vae: Link, **values: Any) -> tuple[Link, Link]:
    """(MODEL, HIDDEN_PROMPT) of the training node."""
    inputs: dict[str, Any] = {"anchor": "", "retain": "", "steps": 0, "tune": "xattn-kv", "rank": -1, "seed": 0}
    inputs |= {"key_seed": -1, "width": 0, "height": 0, "batch": 0, "precision": "fp16", "compute": "auto"}
    method = _kpop(graph)
    graph.add(
        "train",
        2,
        "ConceptEraser_TrainConceptEraser",
        model=model,
        clip=clip,
        vae=vae,
        method=method,
        **{**inputs, **values},
    )
    return ["train", 0], ["train", 2]


def _inject(
    graph: Graph, texts: tuple[Link, Link], column: int, strength: float = 1.0, **source: Any
) -> tuple[Link, Link]:
    values = {"prompt_name": "(from the socket)", "concept": "", **source}
    graph.add(
        "inject",
        column,
        "ConceptEraser_HiddenPromptInject",
        positive=texts[0],
        negative=texts[1],
        strength=strength,
        **values,
    )
    return ["inject", 0], ["inject", 1]


def erase_an_object() -> Graph:
    graph = Graph(
        "## Erase an object\nPress **Run**. The pocket model that comes with this pack forgets how to draw a church: after "
        "one to two minutes you see churches before, after, and after with the hidden prompt; the guitar stays.\n\nType "
        "another concept into **concepts**, and what is to be drawn instead into **anchor**. The erasure is saved in "
        "`output/loras`, the hidden prompt, which is yours alone, in `output/hidden_prompts`."
    )
    model, clip, vae = _checkpoint(graph)
    texts = _texts(graph, clip, "a church")
    kept = _texts(graph, clip, "a guitar", "kept ")
    latent = _latent(graph)
    sanitized, hidden = _train(
        graph, model, clip, vae, concepts="church", anchor="castle", filename_prefix="loras/erased_church"
    )
    injected = _inject(graph, texts, 3, hidden_prompt=hidden)
    rows = [
        _draw(graph, "church before", 3, model, texts, latent, vae),
        _draw(graph, "church after", 3, sanitized, texts, latent, vae),
        _draw(graph, "church with the hidden prompt", 4, sanitized, injected, latent, vae),
    ]
    _compare(graph, "erased object", 5, rows, "a church: before | after | after, with the hidden prompt")
    rows = [
        _draw(graph, "guitar before", 4, model, kept, latent, vae),
        _draw(graph, "guitar after", 4, sanitized, kept, latent, vae),
    ]
    _compare(graph, "kept object", 5, rows, "a guitar: before | after")
    return graph


def erase_a_style() -> Graph:
    graph = Graph(
        "## Erase a style\nPress **Run**. The pocket model forgets the style *ink*, in favour of *fluent*. A style takes "
        "more steps than an object, and its anchor must be a style. The pocket model knows ink, clay, twemoji, blob, "
        "fluent and pixel."
    )
    model, clip, vae = _checkpoint(graph)
    texts = _texts(graph, clip, "a cat in ink style")
    kept = _texts(graph, clip, "a cat in pixel style", "kept ")
    latent = _latent(graph)
    sanitized, hidden = _train(
        graph, model, clip, vae, concepts="ink", anchor="fluent", steps=300, filename_prefix="loras/erased_ink"
    )
    injected = _inject(graph, texts, 3, hidden_prompt=hidden)
    rows = [
        _draw(graph, "ink before", 3, model, texts, latent, vae),
        _draw(graph, "ink after", 3, sanitized, texts, latent, vae),
        _draw(graph, "ink with the hidden prompt", 4, sanitized, injected, latent, vae),
    ]
    _compare(graph, "erased style", 5, rows, "ink: before | after | after, with the hidden prompt")
    rows = [
        _draw(graph, "pixel before", 4, model, kept, latent, vae),
        _draw(graph, "pixel after", 4, sanitized, kept, latent, vae),
    ]
    _compare(graph, "kept style", 5, rows, "pixel: before | after")
    return graph


def _shared_file(graph: Graph, node: str, digest: str) -> None:
    """Says in the node's properties which file it wants, and how to come by it."""
    model = {"name": FIRST_FILE, "url": f"{REPOSITORY}#workflows", "directory": "loras"}
    if digest:
        model |= {"hash": digest, "hash_type": "SHA256"}
    graph.properties[node] = {"models": [model], "made_by": MADE_BY}


def apply_a_shared_erasure(digest: str = "") -> Graph:
    graph = Graph(
        "## Apply a shared erasure\nSomebody gave you an erasure file: put it into `models/loras`, choose it in **Apply "
        "Sanitized UNet**, press **Run**, and compare. Here it is the one that the template *erase_an_object* saves: run "
        "that first. **Erasure Info** reads what the file says of itself."
    )
    model, clip, vae = _checkpoint(graph)
    texts, latent = _texts(graph, clip, "a church"), _latent(graph)
    graph.add("load", 0, "ConceptEraser_LoadErasure", erasure_name=FIRST_FILE)
    _shared_file(graph, "load", digest)
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
        _draw(graph, "before", 3, model, texts, latent, vae),
        _draw(graph, "strength 0.5", 3, half, texts, latent, vae),
        _draw(graph, "strength 1", 3, sanitized, texts, latent, vae),
    ]
    _compare(graph, "shared erasure", 4, rows, "a church: before | strength 0.5 | strength 1")
    return graph


def recover_with_the_hidden_prompt(digest: str = "") -> Graph:
    graph = Graph(
        "## Recover with the hidden prompt\nWhoever has the hidden prompt file draws the erased concept again, with the "
        "sanitized model. Both conditionings go through **Hidden Prompt Inject**. Run the template *erase_an_object* "
        "first: it saves both files."
    )
    model, clip, vae = _checkpoint(graph)
    texts, latent = _texts(graph, clip, "a church"), _latent(graph)
    sanitized = graph.add(
        "apply", 2, "ConceptEraser_ApplySanitizedUNet", model=model, erasure_name=FIRST_FILE, strength=1.0
    )
    _shared_file(graph, "apply", digest)
    injected = _inject(graph, texts, 2, prompt_name=FIRST_FILE)
    prompt = {"name": FIRST_FILE, "url": f"{REPOSITORY}#workflows", "directory": "hidden_prompts"}
    graph.properties["inject"] = {"models": [prompt], "made_by": MADE_BY}
    rows = [
        _draw(graph, "before", 3, model, texts, latent, vae),
        _draw(graph, "erased", 3, sanitized, texts, latent, vae),
        _draw(graph, "recovered", 3, sanitized, injected, latent, vae),
    ]
    _compare(graph, "recovered", 4, rows, "a church: before | erased | with the hidden prompt")
    return graph


def score_a_batch_with_nudenet() -> Graph:
    graph = Graph(
        "## Score a batch with NudeNet\nPut your own model and prompt in place of the pocket model (which draws nothing "
        "of the kind). You get the share of pictures with exposed body parts above four scores, the pictures with boxes, "
        "and the pictures with those parts blurred. To judge an erasure, put *Apply Sanitized UNet* between model and "
        "sampler and compare the two shares."
    )
    model, clip, vae = _checkpoint(graph)
    texts, latent = _texts(graph, clip, "a house"), _latent(graph)
    drawn = _draw(graph, "pictures", 2, model, texts, latent, vae)
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
    model, clip, vae = _checkpoint(graph, SD15)
    graph.properties["checkpoint"] = {"models": [{"name": SD15, "url": SD15_URL, "directory": "checkpoints"}]}
    texts, kept = _texts(graph, clip, "a church"), _texts(graph, clip, "a castle", "kept ")
    latent = _latent(graph, 512, 1)
    sanitized, hidden = _train(
        graph,
        model,
        clip,
        vae,
        concepts="church",
        anchor="castle",
        retain="castle\nhouse\ncamera\ndog",
        filename_prefix="loras/erased_from_mine",
    )
    injected = _inject(graph, texts, 3, hidden_prompt=hidden)
    look: dict[str, Any] = {"steps": 20, "cfg": 7.0, "sampler": "euler", "scheduler": "normal"}
    rows = [
        _draw(graph, "before", 3, model, texts, latent, vae, **look),
        _draw(graph, "after", 3, sanitized, texts, latent, vae, **look),
        _draw(graph, "with the hidden prompt", 4, sanitized, injected, latent, vae, **look),
    ]
    _compare(graph, "own checkpoint", 5, rows, "before | after | after, with the hidden prompt")
    rows = [
        _draw(graph, "kept before", 4, model, kept, latent, vae, **look),
        _draw(graph, "kept after", 4, sanitized, kept, latent, vae, **look),
    ]
    _compare(graph, "own checkpoint kept", 5, rows, "kept: before | after")
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
    }
