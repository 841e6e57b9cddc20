"""Whole words to numbers: the pocket model's vocabulary is small enough to list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import torch
from torch import LongTensor

from eraser_core.pocket.concepts import Concepts, fill

CONTEXT_LENGTH = 16
UNKNOWN, START, END = "<unk>", "<s>", "</s>"
_WORD = re.compile(r"[a-z0-9]+")


def split_words(text: str) -> list[str]:
    """Lower-case words; punctuation separates them and is dropped."""
    return _WORD.findall(text.lower())


def build_vocabulary(concepts: Concepts) -> list[str]:
    """Every word of every caption and of every object that the judge knows, sorted; `<s>` and `</s>` come last, as in CLIP."""
    texts: list[str] = [*concepts.styles, *(word for words in concepts.style_synonyms.values() for word in words)]
    for concept in concepts.objects:
        texts += [concept.name, concept.phrase, *concept.synonyms, *concept.descriptions]
    for word, phrase in concepts.categories.items():
        texts += [word, phrase]
    for templates in (concepts.training, concepts.scoring):
        for template in (*templates.object, *templates.object_style, *templates.style):
            texts.append(fill(template, phrase="", style=""))
    words = {word for text in texts for word in split_words(text)}
    return [UNKNOWN, *sorted(words), START, END]


class WordTokenizer:
    """`<s> words </s>`, filled up with `</s>` to a fixed length, like CLIP's tokens for SD1.x."""

    def __init__(self, vocabulary: Sequence[str], length: int = CONTEXT_LENGTH) -> None:
        self.vocabulary = tuple(vocabulary)
        self.length = length
        self.ids = {word: i for i, word in enumerate(self.vocabulary)}
        self.unknown_id, self.start_id, self.end_id = self.ids[UNKNOWN], self.ids[START], self.ids[END]

    def encode(self, texts: Iterable[str]) -> LongTensor:
        """Texts -> LongTensor [b, length]. Words too many are cut off; unknown ones become `<unk>`."""
        return LongTensor(torch.tensor([self._row(text) for text in texts], dtype=torch.long).reshape(-1, self.length))

    def word_ids(self, text: str) -> list[int]:
        """The numbers of a text's words, without start and end."""
        return [self.ids.get(word, self.unknown_id) for word in split_words(text)]

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the model has never heard, in order."""
        return [word for word in split_words(text) if word not in self.ids]

    def _row(self, text: str) -> list[int]:
        ids = self.word_ids(text)[: self.length - 2]
        return [self.start_id, *ids] + [self.end_id] * (self.length - 1 - len(ids))
