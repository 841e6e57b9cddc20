"""The one place that knows which words a host's schemas understand, and the pack's own sockets.

Newer hosts know `search_aliases`, `advanced` and more; 0.3.75 raises TypeError on them and skips the whole pack.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from comfy_api.latest import io

from eraser_core.errors import RequestError

CATEGORY = "concept eraser"
ALIASES = ("remove", "erase", "unlearn", "forget", "censor", "concept")

EMPTY = {
    "MODEL": "the MODEL is empty: connect Load Checkpoint",
    "CLIP": "the CLIP is empty: this checkpoint holds no text encoder; connect Load CLIP (or Dual CLIP Loader for SDXL)",
    "VAE": "the VAE is empty: this checkpoint holds none; connect Load VAE",
}

Erasure = io.Custom("CONCEPT_ERASURE")
HiddenPrompt = io.Custom("HIDDEN_PROMPT")
Method = io.Custom("CONCEPT_ERASER_METHOD")
LoraModel = io.Custom("LORA_MODEL")
LossMap = io.Custom("LOSS_MAP")


def field(make: Callable[..., Any], name: str, **words: Any) -> Any:
    """`make(name, **words)` for an input class, without the words that this host does not know."""
    known = inspect.signature(make).parameters
    return make(name, **{word: value for word, value in words.items() if word in known})


def auto(make: Callable[..., Any], name: str, stands_for: int, title: str | None = None, **words: Any) -> Any:
    """A number input whose value `stands_for` is "choose for me", which its label says and which is its default."""
    label = f"{title or name} ({stands_for} = auto)"
    return field(make, name, display_name=label, default=stands_for, **words)


def node_schema(
    name: str,
    title: str,
    description: str,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    aliases: Sequence[str] = ALIASES,
    **words: Any,
) -> io.Schema:
    """The schema of the node `ConceptEraser_<name>`, without the words that this host does not know."""
    known = {f.name for f in dataclasses.fields(io.Schema)}
    optional = {"search_aliases": list(aliases), **words}
    return io.Schema(
        node_id=f"ConceptEraser_{name}",
        display_name=title,
        category=CATEGORY,
        description=description,
        inputs=list(inputs),
        outputs=list(outputs),
        **{word: value for word, value in optional.items() if word in known},
    )


def checked(execute: Callable[..., Any]) -> Callable[..., Any]:
    """A node's `execute` that first raises RequestError for what hosts let through: a wire without a value, a number that
    is none, and (0.3.75) a word that is not in its list."""

    @wraps(execute)
    def run(cls: type[io.ComfyNode], **values: Any) -> Any:
        own = inspect.signature(cls.validate_inputs).parameters  # the host's rule: what a node validates by itself
        for given in cls.define_schema().inputs:
            if given.id not in own:
                _check(given, values)
        return execute(cls, **values)

    return run


def _check(given: Any, values: Mapping[str, Any]) -> None:
    value, name = values.get(given.id), given.id.rstrip("_")
    if value is None:
        if not given.optional:
            kind = given.get_io_type()
            raise RequestError(
                EMPTY.get(
                    kind, f"the input {name} is empty: what is connected to it gave nothing, connect another node"
                )
            )
    elif isinstance(given, io.Float.Input) and not math.isfinite(value):
        raise RequestError(f"{name} is {value}: type a number")
    elif isinstance(given, io.Combo.Input) and value not in given.options:
        raise RequestError(f"{name} is {value!r}: choose one of {', '.join(map(str, given.options))}")
