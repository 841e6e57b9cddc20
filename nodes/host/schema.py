"""The one place that knows which words a host's schemas understand, and the pack's own sockets.

Newer hosts know `search_aliases`, `advanced` and more; 0.3.75 raises TypeError on them and skips the whole pack.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from comfy_api.latest import io

CATEGORY = "concept eraser"
ALIASES = ("remove", "erase", "unlearn", "forget", "censor", "concept")

Erasure = io.Custom("CONCEPT_ERASURE")
HiddenPrompt = io.Custom("HIDDEN_PROMPT")
Method = io.Custom("CONCEPT_ERASER_METHOD")
LoraModel = io.Custom("LORA_MODEL")
LossMap = io.Custom("LOSS_MAP")


def field(make: Callable[..., Any], name: str, **words: Any) -> Any:
    """`make(name, **words)` for an input class, without the words that this host does not know."""
    known = inspect.signature(make).parameters
    return make(name, **{word: value for word, value in words.items() if word in known})


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
