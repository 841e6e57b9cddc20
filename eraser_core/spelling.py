"""What is written like a word that nobody knows, to end a refusal with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 2  # words in a question


def close(word: str, known: Iterable[str]) -> list[str]:
    """The known words that are written most like `word`, whatever their case; none where none is near."""
    by_lower = {name.lower(): name for name in known}
    return [by_lower[found] for found in difflib.get_close_matches(word.strip().lower(), by_lower, n=MOST)]


def did_you_mean(found: Iterable[str]) -> str:
    """A question that names these words; "" for none."""
    words = " or ".join(map(repr, found))
    return f"; did you mean {words}?" if words else ""
