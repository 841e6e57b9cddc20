"""The template *apply a shared erasure* with the shared file's names and sizes filled in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .folder import WORKFLOW

ROOT = Path(__file__).resolve().parents[2]
POCKETS = {"pocket": "pocket.safetensors", "pocket-flow": "pocket_flow.safetensors"}
STEPS, GUIDANCE = 25, 7.5


@dataclass(frozen=True)
class Filling:
    """What is filled in: the file and its SHA-256, the concept, the checkpoint's name, the side of the pictures in pixels."""

    name: str
    sha256: str
    concept: str
    checkpoint: str
    side: int

    @property
    def pocket(self) -> bool:
        return self.checkpoint in POCKETS.values()


def template() -> dict[str, Any] | None:
    """The template; None where the engine was installed without the ComfyUI pack."""
    for folder in ("example_workflows", "workflows"):
        path = ROOT / folder / WORKFLOW
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
    return None


def filled(graph: dict[str, Any], filling: Filling) -> dict[str, Any]:
    """The graph with its widgets set, type by type."""
    for node in graph["nodes"]:
        fill = _FILLS.get(node["type"])
        if fill is not None:
            fill(node, filling)
    return graph


def _checkpoint(node: dict[str, Any], filling: Filling) -> None:
    node["widgets_values"] = [filling.checkpoint]


def _text(node: dict[str, Any], filling: Filling) -> None:
    if node["widgets_values"] != [""]:  # the negative prompt stays empty
        node["widgets_values"], node["title"] = [filling.concept], f"Prompt: {filling.concept}"


def _latent(node: dict[str, Any], filling: Filling) -> None:
    node["widgets_values"] = [filling.side, filling.side, 4 if filling.side <= 512 else 1]


def _erasure(node: dict[str, Any], filling: Filling) -> None:
    node["widgets_values"] = [filling.name]
    file = {"name": filling.name, "directory": "loras", "hash": filling.sha256, "hash_type": "SHA256"}
    node["properties"] = {"Node name for S&R": node["type"], "models": [file]}


def _sampler(node: dict[str, Any], filling: Filling) -> None:
    if not filling.pocket:
        node["widgets_values"][2:4] = [STEPS, GUIDANCE]


def _compare(node: dict[str, Any], filling: Filling) -> None:
    node["widgets_values"] = [f"{filling.concept}: before | strength 0.5 | strength 1"]


def _note(node: dict[str, Any], filling: Filling) -> None:
    model = "" if filling.pocket else " Choose your checkpoint in **Load Checkpoint**."
    node["widgets_values"] = [
        f"## Apply a shared erasure\nPut `{filling.name}` into `models/loras`.{model} Press **Run**, and compare. **Erasure "
        "Info** reads what the file says of itself."
    ]


_FILLS: dict[str, Callable[[dict[str, Any], Filling], None]] = {
    "CheckpointLoaderSimple": _checkpoint,
    "CLIPTextEncode": _text,
    "EmptyLatentImage": _latent,
    "ConceptEraser_LoadErasure": _erasure,
    "KSampler": _sampler,
    "ConceptEraser_Compare": _compare,
    "MarkdownNote": _note,
}
