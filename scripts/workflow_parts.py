"""What the graphs of workflows/ are put together from: nodes by id, and the groups of nodes that several graphs share.

Node ids are words; what the reader sees are the titles. `note` is text on the canvas.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Link = list[Any]
EXAMPLE = "example_guitar.safetensors"  # in shared_examples/, which the lists of LoRAs and hidden prompts look into
REPOSITORY = "https://github.com/concept-eraser/ComfyUI-ConceptEraser"
SD15 = "v1-5-pruned-emaonly-fp16.safetensors"
SD15_URL = f"https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{SD15}"
FLUX = "flux1-dev-fp8.safetensors"
FLUX_URL = f"https://huggingface.co/Comfy-Org/flux1-dev/resolve/main/{FLUX}"
EULER: dict[str, Any] = {"sampler": "euler", "scheduler": "simple"}  # for flow matching
MADE_BY = "it comes with ComfyUI-ConceptEraser, in shared_examples: update the pack"
# Columns, from left to right: no wire leads back.
START, TEXTS, ERASE, INJECT, DRAW, COMPARE = 0, 1, 2, 3, 4, 6


@dataclass
class Graph:
    """Nodes by id, the place and title of each, properties for some, and the text of the note.

    A place is a column, the title of the group round it, and the group's band: a band lies below the one before.
    The nodes of a folded section become one subgraph with the section's title.
    """

    note: str
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    bands: dict[str, int] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)
    group: str = "Start"
    band: int = 0
    fold: bool = False

    def section(self, group: str, band: int = 0, fold: bool = False) -> None:
        """The nodes that are added from here on stand in this group; with `fold` as one subgraph."""
        self.group, self.band, self.fold = group, band, fold

    def add(self, name: str, column: int, kind: str, title: str = "", beside: str = "", /, **inputs: Any) -> Link:
        """Add a node; returns its first output. `beside` is a node of the column before, at whose height it stands."""
        self.nodes[name] = {"class_type": kind, "inputs": inputs}
        self.columns[name], self.groups[name], self.bands[name] = column, self.group, self.band
        if self.fold:
            self.folded.add(name)
        if title:
            self.titles[name] = title
        if beside:
            self.beside[name] = beside
        return [name, 0]


def checkpoint(graph: Graph, name: str = "pocket.safetensors") -> tuple[Link, Link, Link]:
    graph.add("checkpoint", START, "CheckpointLoaderSimple", ckpt_name=name)
    return ["checkpoint", 0], ["checkpoint", 1], ["checkpoint", 2]


def encode(graph: Graph, clip: Link, prompt: str, name: str = "") -> tuple[Link, Link]:
    """(positive, negative); all texts of a graph share one negative."""
    graph.section("Texts and size")
    column = TEXTS
    positive = graph.add(f"{name}positive", column, "CLIPTextEncode", f"Prompt: {prompt}", text=prompt, clip=clip)
    if "negative" not in graph.nodes:
        graph.add("negative", column, "CLIPTextEncode", "Negative prompt", text="", clip=clip)
    return positive, ["negative", 0]


def draw(
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
    return graph.add(f"{name} decode", column + 1, "VAEDecode", "", f"{name} sampler", samples=sampled, vae=vae)


def empty_latent(graph: Graph, size: int = 64, batch: int = 4) -> Link:
    graph.section("Texts and size")
    return graph.add("latent", TEXTS, "EmptyLatentImage", width=size, height=size, batch_size=batch)


def compare(graph: Graph, name: str, column: int, rows: list[Link], labels: str) -> None:
    inputs = dict(zip(("before", "after", "third", "fourth"), rows, strict=False))
    compared = graph.add(name, column, "ConceptEraser_Compare", labels=labels, **inputs)
    prefix = f"concept_eraser/{name}"
    graph.add(f"{name} saved", column + 1, "SaveImage", "Result", name, images=compared, filename_prefix=prefix)


def kpop(graph: Graph) -> Link:
    settings = {"mechanism": "concatenative", "lambda_": -1.0, "k": -1, "eta": -1.0, "eta_p": -1.0, "guidance": -1.0}
    settings |= {"retain_weight": -1.0, "recovery_target": "erased", "latents": "pool", "latents_from": "frozen"}
    graph.section("Start")
    return graph.add("kpop", START, "ConceptEraser_KPOPSettings", optimizer="adam", null_space=False, **settings)


def train(graph: Graph, model: Link, clip: Link, vae: Link, **values: Any) -> tuple[Link, Link]:
    """(MODEL, HIDDEN_PROMPT) of the training node."""
    inputs: dict[str, Any] = {"anchor": "", "retain": "", "steps": 0, "tune": "xattn-kv", "rank": -1, "seed": 0}
    inputs |= {"key_seed": -1, "width": 0, "height": 0, "batch": 0, "precision": "fp16", "compute": "auto"}
    method = kpop(graph)
    graph.section("Erase")
    graph.add(
        "train",
        ERASE,
        "ConceptEraser_TrainConceptEraser",
        model=model,
        clip=clip,
        vae=vae,
        method=method,
        **{**inputs, **values},
    )
    return ["train", 0], ["train", 2]


def solve(graph: Graph, model: Link, clip: Link) -> Link:
    """The MODEL of a closed form that erases the church."""
    words = {"concepts": "church", "anchor": "castle", "retain": "", "filename_prefix": "loras/erased_church_uce"}
    inputs: dict[str, Any] = {"model": model, "clip": clip, "method": "UCE", "precision": "fp16", **words}
    graph.section("Erase")
    return graph.add("solve", ERASE, "ConceptEraser_EraseClosedForm", **inputs)


def inject(graph: Graph, texts: tuple[Link, Link], strength: float = 1.0, **source: Any) -> tuple[Link, Link]:
    graph.section("Bring it back")
    values = {"prompt_name": "(from the socket)", "concept": "", **source}
    graph.add(
        "inject",
        INJECT,
        "ConceptEraser_HiddenPromptInject",
        positive=texts[0],
        negative=texts[1],
        strength=strength,
        **values,
    )
    return ["inject", 0], ["inject", 1]


def shared_file(graph: Graph, node: str, digest: str, directory: str = "loras") -> None:
    """Says in the node's properties which file it wants, and how to come by it."""
    model = {"name": EXAMPLE, "url": f"{REPOSITORY}#workflows", "directory": directory}
    if digest:
        model |= {"hash": digest, "hash_type": "SHA256"}
    graph.properties[node] = {"models": [model], "made_by": MADE_BY}
