"""The ComfyUI face: V3 nodes that parse, call the engine and return."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def find_engine() -> None:
    """Make `eraser_core` importable by its own name, from this folder, without touching sys.path.

    With this repository on sys.path, ComfyUI's own `nodes`, `scripts` and `tests` would be shadowed by ours; and an
    installed engine of another version must not be taken in place of the one that these nodes were written for.
    """
    if "eraser_core" in sys.modules:
        return
    spec = PathFinder.find_spec("eraser_core", [str(ROOT)])
    if spec is None:
        raise ImportError(f"{ROOT} lacks the folder eraser_core: fetch ComfyUI-ConceptEraser again")
    module = importlib.util.module_from_spec(spec)
    sys.modules["eraser_core"] = module
    if spec.loader is not None:  # none where the folder is a namespace package
        spec.loader.exec_module(module)


def extension() -> Any:
    """The `ComfyExtension` of this pack. Registers folders and the pocket checkpoint on the way: hosts before 0.15 never
    call `on_load`."""
    find_engine()
    from comfy_api.latest import ComfyExtension

    from .host import folders, pocket_checkpoint
    from .registry import all_nodes

    folders.register()
    pocket_checkpoint.register()

    class ConceptEraserExtension(ComfyExtension):
        async def get_node_list(self) -> list[type]:
            return all_nodes()

    return ConceptEraserExtension()
