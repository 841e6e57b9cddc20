"""Which nodes there are, in the order of the menu."""

from __future__ import annotations


def all_nodes() -> list[type]:
    """Every node class of the pack."""
    return []
