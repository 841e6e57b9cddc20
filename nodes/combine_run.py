"""What *Combine Erasures* does when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from eraser_core.erasure import Erasure
from eraser_core.many.combine import combine, configured, source
from eraser_core.many.harm import harm

from .host import folders
from .host.unloaded import UnloadedDenoiser
from .train_run import save


def combined(
    denoiser: UnloadedDenoiser, given: Sequence[tuple[str, Erasure]], kept: float, dtype: torch.dtype, prefix: str
) -> tuple[Erasure, Path, str]:
    """(the erasure, its file, what the node says); nothing is left behind when it raises."""
    folders.new_file(prefix)  # a wrong one is said now, not at the end
    sources = [source(name, erasure) for name, erasure in given]
    found = combine(denoiser, sources, configured(kept), dtype=dtype)
    path = save(found.erasure, None, prefix)
    names = ", ".join(target.concept for target in found.request.targets)
    seconds = found.seconds + found.text_seconds
    lines = [f"{len(sources)} erasures in one ({names}): done in {seconds:.1f} s, saved as {path.name}", *found.notes]
    if found.request.retain:
        alone = harm(denoiser, [erasure for _, erasure in given], found.request.retain).text()
        left = harm(denoiser, [found.erasure], found.request.retain).text()
        lines += [f"stacked, {alone}"] if alone else []
        lines += [left] if left else []
    return found.erasure, path, "\n".join(lines)
