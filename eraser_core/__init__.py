"""Take a concept out of a text-to-image diffusion model, keep the rest, and prove it. Knows nothing of ComfyUI.

For programmers: `from eraser_core import open_model, erase, load_erasure, score`; docs/python.md has worked examples. The
names are looked up when they are asked for, so that `import eraser_core` brings neither torch nor diffusers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Result, Score, erase, score
    from .erasure import Erasure, load_erasure
    from .models import Model, open_model, open_reader

__version__ = "0.1.0"

_HOMES = {
    "Erasure": "erasure",
    "Model": "models",
    "Result": "api",
    "Score": "api",
    "erase": "api",
    "load_erasure": "erasure",
    "open_model": "models",
    "open_reader": "models",
    "score": "api",
}

__all__ = ["Erasure", "Model", "Result", "Score", "erase", "load_erasure", "open_model", "open_reader", "score"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
