"""What a run says of itself under its node and in its file: what became of what, and every setting that was used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eraser_core.erasure import Erasure, not_loaded
from eraser_core.keeping import Chosen
from eraser_core.request import Request

if TYPE_CHECKING:
    from pydantic import BaseModel


def in_words(request: Request) -> str:
    """What becomes of what."""
    return ", ".join(f"{t.concept} -> {t.anchor or '(nothing in particular)'}" for t in request.targets)


def retained(chosen: Chosen) -> dict[str, Any]:
    """How many prompts are kept, and where they come from."""
    return {"retained": len(chosen.request.retain), "retain_set": chosen.source}


def used(method: str, settings: BaseModel, run: Mapping[str, Any], erasure: Erasure) -> str:
    """Every setting with its value, the method's in one line and the node's own in another; then who does not load the file."""
    lines = [f"{method}: {_listed(settings.model_dump(by_alias=True))}", _listed(run), not_loaded(erasure)]
    return "\n".join(line for line in lines if line)


def stored(erasure: Erasure) -> list[str]:
    """What a file says of the settings that made it, in the same words."""
    said = {name: json.loads(erasure.facts.get(f"erasure.{name}", "{}")) for name in ("settings", "run")}
    return [f"{name}: {_listed(values)}" for name, values in said.items() if values]


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def with_run(erasure: Erasure, run: Mapping[str, Any], clip: Any) -> Erasure:
    """The file says what the node was set to, beside the method's settings; and at which CLIP layer its texts were read,
    when that is not the model's own."""
    facts = {**erasure.facts, "erasure.run": json.dumps(dict(run))}
    layer = getattr(clip, "layer_idx", None)
    if layer is not None:
        facts["erasure.clip_layer"] = str(layer)
    return replace(erasure, facts=facts)
