"""The pocket model: a small text-to-image model of our own, its concepts and its judge.

Names are imported when they are first used: diffusers takes seconds, and who only reads the concepts needs none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .concepts import Concept, Concepts, load_concepts
    from .judge import Judge, JudgeScores, load_judge
    from .model import PocketModel, Schedule, load_pocket
    from .tokenizer import WordTokenizer, build_vocabulary

__all__ = [
    "Concept",
    "Concepts",
    "Judge",
    "JudgeScores",
    "PocketModel",
    "Schedule",
    "WordTokenizer",
    "build_vocabulary",
    "load_concepts",
    "load_judge",
    "load_pocket",
]

_HOMES = {
    "concepts": ("Concept", "Concepts", "load_concepts"),
    "judge": ("Judge", "JudgeScores", "load_judge"),
    "model": ("PocketModel", "Schedule", "load_pocket"),
    "tokenizer": ("WordTokenizer", "build_vocabulary"),
}


def __getattr__(name: str) -> Any:
    """PEP 562."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
