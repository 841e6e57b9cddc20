"""Choosing what takes a concept's place: the nearest kept concept in the text encoder's own space."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import RequestError
from .text_readers import TextReader

AT_ONCE = 16  # words: a text encoder that is read from the disk is read once for them


def embed(denoiser: TextReader, phrases: Sequence[str]) -> Tensor:
    """[len(phrases), n * d]: everything that cross-attention reads of each phrase, its padding included.

    The last word's own hidden state says less: on the pocket model the nearest by it shares the concept's category half
    as often as the nearest by the whole context does (42 against 86 of 276; docs/results/anchors.md).
    """
    return denoiser.encode(phrases).tokens.float().flatten(1)


class Candidates:
    """Words of which one takes a concept's place. They are read once, however many concepts ask.

    Embeddings are means over `prompts`, with the word in the place of {}. A style needs the prompts in which it is
    erased: alone it reads otherwise than after an object's name.
    """

    def __init__(self, denoiser: TextReader, words: Sequence[str], prompts: Sequence[str] = ("{}",)):
        self.words = tuple(words)
        self._denoiser, self._prompts = denoiser, tuple(prompts)
        self._vectors = [vector for i in range(0, len(words), AT_ONCE) for vector in self._read(words[i : i + AT_ONCE])]

    def nearest(self, concept: str, without: Collection[str] = ()) -> str:
        """The word whose embedding has the largest cosine with the concept's, both centred on the words' mean.

        Neither the concept itself nor a word `without` (lower case) is taken. RequestError where none is left.
        """
        gone = {concept.lower(), *without}
        others = [i for i, word in enumerate(self.words) if word.lower() not in gone]
        if not others:
            raise RequestError(f"no anchor can be chosen for {concept!r}: name one, or concepts to retain")
        vectors = torch.stack([*self._read([concept]), *(self._vectors[i] for i in others)])
        vectors = vectors - vectors[1:].mean(0)
        return self.words[others[int(F.cosine_similarity(vectors[:1], vectors[1:]).argmax())]]

    def _read(self, words: Sequence[str]) -> Tensor:
        """[len(words), n * d]."""
        found = embed(self._denoiser, [prompt.replace("{}", word) for word in words for prompt in self._prompts])
        return found.unflatten(0, (len(words), len(self._prompts))).mean(1)


def nearest(denoiser: TextReader, concept: str, candidates: Sequence[str], prompts: Sequence[str] = ("{}",)) -> str:
    """As `Candidates.nearest`, for one concept."""
    return Candidates(denoiser, candidates, prompts).nearest(concept)
