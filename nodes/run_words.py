"""What a run says of itself under its node and in its file: what became of what, and every setting that was used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from eraser_core.erasure import Dense, Erasure
from eraser_core.request import Request

DENSE = "this is a dense change: ComfyUI loads the file, diffusers does not; give a rank for a small one that both load"


def in_words(request: Request) -> str:
    """What becomes of what."""
    return ", ".join(f"{t.concept} -> {t.anchor or '(nothing in particular)'}" for t in request.targets)


def used(method: str, settings: BaseModel, run: Mapping[str, Any], erasure: Erasure) -> str:
    """Every setting with its value, the method's in one line and the node's own in another."""
    lines = [f"{method}: {_listed(settings.model_dump(by_alias=True))}", _listed(run)]
    if any(isinstance(entry, Dense) for entry in erasure.entries.values()):
        lines.append(DENSE)
    return "\n".join(lines)


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
