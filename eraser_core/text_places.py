"""Where a prompt's words lie among the states of a text encoder that is no CLIP: T5, or a language model with a chat template.

A template, an end or filling stands round the words, and some encoders leave the template's states out. What an empty prompt's
tokens look like tells all of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import pad

from .denoiser import Context, Tune
from .errors import RequestError
from .text_readers import TextReader

LENGTH = 64  # tokens of every prompt that a closed form looks at: its words, and filling that knows of them


def at_length(tokens: Tensor) -> Tensor:
    """[b, n, d] cut or filled with zeros to [b, 64, d]."""
    return pad(tokens[:, :LENGTH], (0, 0, 0, max(LENGTH - tokens.shape[1], 0)))


class Places:
    """Places of words in the states of one encoder.

    `ids` gives a prompt's tokens with the template round them and without filling. `left_out` is how many of a template's
    first tokens have no states.
    """

    def __init__(self, ids: Callable[[str], Sequence[Any]], left_out: int = 0):
        self._ids, self._left_out = ids, left_out
        self._empty = list(ids(""))
        other = ids("a")
        self._head = next(i for i, (a, b) in enumerate(zip([*self._empty, None], other, strict=False)) if a != b)

    def end(self, prompt: str) -> int:
        """The place behind the last word; RequestError for a prompt of more tokens than are looked at."""
        words = len(self._ids(prompt.rstrip())) - len(self._empty)
        end = self._head - self._left_out + words
        if end > LENGTH:
            raise RequestError(f"a prompt has {end} tokens, closed forms look at {LENGTH}: shorten {prompt[:LENGTH]!r}")
        return end


class Stretch:
    """The states of one of several text encoders that follow each other, and the places of words in them."""

    def __init__(self, whole: TextReader, index: int, places: Places):
        self.family = whole.family
        self._whole, self._places = whole, places
        self._part = slice(index * LENGTH, (index + 1) * LENGTH)

    def encode(self, prompts: Sequence[str]) -> Context:
        return Context(self._whole.encode(prompts).tokens[:, self._part])

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        return self.encode(prompts).tokens[:, :n]

    def as_read(self, tokens: Tensor) -> Tensor:
        return self._whole.as_read(tokens)

    def token_count(self, prompt: str) -> int:
        return self._places.end(prompt)

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        return self._whole.weights(tune)


class Pooled:
    """The one vector that a model reads for a whole text, as a text of one token. `vectors` gives them [len(prompts), p]."""

    def __init__(self, family: str, vectors: Callable[[Sequence[str]], Tensor], weights: Mapping[str, Tensor]):
        self.family = family
        self._vectors, self._weights = vectors, weights

    def encode(self, prompts: Sequence[str]) -> Context:
        return Context(self._vectors(prompts)[:, None])

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        return self.encode(prompts).tokens[:, :n]

    def as_read(self, tokens: Tensor) -> Tensor:
        return tokens

    def token_count(self, prompt: str) -> int:
        return 1

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        return self._weights
