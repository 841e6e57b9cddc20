"""What *Erase Concepts (closed form)* does when it runs."""

from __future__ import annotations

from typing import Any

import torch

from eraser_core.erasing import configure, erase
from eraser_core.errors import RequestError
from eraser_core.methods import METHODS
from eraser_core.methods import method as registered
from eraser_core.precision import DTYPES

from . import request_words
from .host import folders
from .host import model as host_model
from .host.preview import say
from .host.unloaded import UnloadedDenoiser
from .run_words import in_words, retained, used, with_run
from .train_run import save
from .values import MethodChoice


def solve(
    model: Any, clip: Any, choice: MethodChoice, values: dict[str, Any], node_id: str
) -> tuple[tuple[Any, ...], str]:
    """(the node's outputs, what it says of the run); nothing is left behind when it raises."""
    with torch.inference_mode(False), torch.no_grad():
        return _solve(model, clip, choice, values, node_id)


def _solve(
    model: Any, clip: Any, choice: MethodChoice, values: dict[str, Any], node_id: str
) -> tuple[tuple[Any, ...], str]:
    folders.check_prefix(values["filename_prefix"])  # a wrong one is said now, not at the end
    chosen = registered(choice.name)
    if chosen.solve is None:
        closed = ", ".join(name.upper() for name, m in METHODS.items() if m.solve)
        raise RequestError(
            f"{choice.name.upper()} has no closed form, it is trained: connect its settings to Train Concept Eraser, or "
            f"settings of {closed} to this node"
        )
    denoiser = UnloadedDenoiser(model, clip)
    words = request_words.Words(values["concepts"], values["anchor"], values["retain"])
    found = request_words.build(words, denoiser, 0)
    request = found.request
    settings = configure(chosen, denoiser.family, request, choice.settings)
    result = erase(denoiser, request, chosen, settings, dtype=DTYPES[values["precision"]])
    run = {"precision": values["precision"], **retained(found)}
    erasure = with_run(result.erasure, run, clip)
    path = save(erasure, None, values["filename_prefix"])
    done = f"{in_words(request)}: done in {result.seconds:.1f} s, saved as {path.name}"
    text = "\n".join([done, *found.notes, used(choice.name, settings, run, erasure)])
    say(text, node_id)
    return (host_model.apply_erasure(model, erasure, 1.0, path.name), erasure, erasure.tensors()), text
