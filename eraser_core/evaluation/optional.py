"""Packages that one metric alone needs: imported when it runs, and named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ModelError


def optional(module: str, purpose: str, package: str) -> Any:
    """The module; ModelError with the line to type if it cannot be imported."""
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision beside another build of torch raises RuntimeError
        raise ModelError(
            f"{purpose} needs the package {package}, which cannot be imported ({error}): type `pip install {package}` "
            "in the Python environment that runs this"
        ) from error
