"""Inputs that several of the methods' settings nodes have."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.schema import Method, auto, field
from .values import MethodChoice

BY_MODEL = -1
RATE = "Learning rate of the UNet."
RETAIN = "How much it counts that retained concepts stay as they are. -1 is 1 where such were named, else 0."


def chosen(name: str, values: dict[str, Any]) -> MethodChoice:
    """The METHOD of this name with the values that were set; -1 leaves one to the model."""
    return MethodChoice(name, {key: value for key, value in values.items() if value != BY_MODEL})


def output(solved: bool = False) -> Any:
    """The node's one output; `solved` where it is a closed form."""
    also = "Erase Concepts (closed form) or " if solved else ""
    return Method.Output(display_name="METHOD", tooltip=f"Connect to {also}Train Concept Eraser.")


def latents() -> Any:
    """Where half-finished pictures come from."""
    tooltip = (
        "Half-finished pictures from a pool, each used many times, or made anew for every step as the authors do (many "
        "times slower for more than a few steps)."
    )
    return field(io.Combo.Input, "latents", options=["pool", "fresh"], default="pool", tooltip=tooltip, advanced=True)


def layers() -> Any:
    """Which matrices a closed form changes."""
    tooltip = "Which matrices that read the text are changed: keys and values, keys, or values."
    return io.Combo.Input("layers", options=["kv", "k", "v"], default="kv", tooltip=tooltip)


def overshoot(stands_for: str) -> Any:
    """How far past its anchor a concept is moved; `stands_for` is what -1 comes to."""
    tooltip = (
        "How far past its anchor the concept is moved. 0 is the papers' way, with which the anchor in a negative prompt "
        f"brings the concept back. More can harm what looks alike. -1 is {stands_for}."
    )
    return later("overshoot", tooltip, most=4)


def confine(stands_for: str) -> Any:
    """Whether the change is confined to the concepts' texts after the training; `stands_for` is what -1 comes to."""
    tooltip = (
        "After the training: confine the change to the concepts' texts, so that what nobody named stays as it was. The number "
        f"weighs what is kept, in times of the concepts; 0 leaves the change as it was trained. -1 is {stands_for}."
    )
    return later("confine", tooltip, most=100)


def later(name: str, tooltip: str, most: float) -> Any:
    """An optional number: workflows that were saved before it was there have no such value."""
    words: dict[str, Any] = {"min": -1, "max": most, "step": 0.05, "round": False, "optional": True, "advanced": True}
    return auto(io.Float.Input, name, BY_MODEL, tooltip=tooltip, **words)


def count(name: str, tooltip: str) -> Any:
    """A whole number."""
    return auto(io.Int.Input, name, BY_MODEL, min=-1, max=100_000, tooltip=tooltip)


def weight(name: str, tooltip: str, title: str | None = None) -> Any:
    """A number from 0 to 100."""
    return auto(io.Float.Input, name, BY_MODEL, title, min=-1, max=100, step=0.0001, round=False, tooltip=tooltip)


def rate(name: str, tooltip: str) -> Any:
    """A learning rate."""
    return auto(io.Float.Input, name, BY_MODEL, min=-1, max=1, step=1e-6, round=False, tooltip=tooltip, advanced=True)
