"""A general vocabulary: words that nobody named, so that an edit of the text space leaves them alone too.

The words stand in prompts, as users write them: words by themselves keep whole prompts less well (docs/results/many.md).
"""

from __future__ import annotations

import gzip
from collections.abc import Collection
from functools import cache

from .backends.clip_tokens import MERGES
from .keeping import OF_THINGS
from .pocket.concepts import FAMILIES, load_concepts, with_article
from .pocket.tokenizer import build_vocabulary, split_words
from .request import fill

MOST = 1000
# A concept that holds them does not own them.
LITTLE = {"a", "an", "the", "of", "in", "on", "by", "with", "and", "for", "style"}


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


@cache
def general_prompts(family: str) -> tuple[str, ...]:
    """Every word of the general vocabulary in one prompt, the templates in turn: "a picture of a lamp".

    The pocket models' templates are those of their captions, in every style and in none.
    """
    templates = load_concepts().object_templates if family in FAMILIES else OF_THINGS
    words = general_words(family)
    return tuple(fill(templates[i % len(templates)], with_article(word)) for i, word in enumerate(words))


def general_prompts_with(family: str, phrases: Collection[str]) -> list[str]:
    """Those of the general prompts whose own word is one of the phrases', but for articles and the like.

    Of the pocket models' prompts also those that name it as a style.
    """
    named = {word for phrase in phrases for word in split_words(phrase)} - LITTLE
    pairs = zip(general_words(family), general_prompts(family), strict=False)
    whole = family in FAMILIES
    return [prompt for word, prompt in pairs if named.intersection(split_words(prompt) if whole else [word])]
