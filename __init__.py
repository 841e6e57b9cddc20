"""ComfyUI-ConceptEraser: erase a concept from an image model, share the erasure as a LoRA file, bring it back with a key.

Nothing heavy is imported here: ComfyUI calls `comfy_entrypoint` once, when it loads its custom nodes.
"""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """The extension with all nodes, as ComfyUI's V3 interface wants it."""
    from .nodes import extension

    return extension()
