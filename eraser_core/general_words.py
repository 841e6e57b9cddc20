"""A general vocabulary: words that nobody named, so that an edit of the text space leaves them alone too."""

from __future__ import annotations

import gzip
from collections.abc import Collection
from functools import cache

from .backends.clip_tokens import MERGES
from .pocket.concepts import FAMILIES, load_concepts
from .pocket.tokenizer import build_vocabulary, split_words

MOST = 1000
LITTLE = {"a", "an", "the", "of", "in", "on", "by", "with", "and", "for"}  # a concept that holds them does not own them


@cache
def general_words(family: str) -> tuple[str, ...]:
    """Every word that the pocket models know; for other families the most frequent words and endings of CLIP's merges.

    The merges are in the order of frequency in CLIP's training texts.
    """
    if family in FAMILIES:
        return tuple(word for word in build_vocabulary(load_concepts()) if word.isalpha())
    merges = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    whole = [line.replace(" ", "").removesuffix("</w>") for line in merges if line.endswith("</w>")]
    words = [word for word in whole if len(word) > 2 and word.isascii() and word.isalpha()]
    return tuple(dict.fromkeys(words))[:MOST]


def general_words_in(family: str, phrases: Collection[str]) -> list[str]:
    """Those of the general vocabulary that occur in the phrases, but for articles and the like."""
    named = {word for phrase in phrases for word in split_words(phrase)} - LITTLE
    return [word for word in general_words(family) if word in named]
