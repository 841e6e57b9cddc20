"""Where a prompt's words lie among the states of a text encoder that is no CLIP: T5, or a language model with a chat template.

Their tokenizers put a template, an end or filling round the words, and some encoders leave the template's states out. What an
empty prompt's tokens and states look like tells all of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eraser_core.errors import RequestError

LENGTH = 64  # tokens of every prompt that a closed form looks at: its words, and filling that knows of them


def at_length(tokens: Tensor) -> Tensor:
    """[b, n, d] cut or filled with zeros to [b, 64, d]."""
    return torch.nn.functional.pad(tokens[:, :LENGTH], (0, 0, 0, max(LENGTH - tokens.shape[1], 0)))


def unweighted(clip: Any) -> dict[str, bool]:
    """What `tokenize` is told so that brackets in a prompt are letters and not weights.

    Tokenizers with a chat template see to it by themselves, and refuse to be told.
    """
    return {} if hasattr(clip.tokenizer, "llama_template") else {"disable_weights": True}


def encoders(clip: Any) -> tuple[str, ...]:
    """The tokenizers of those encoders of a Stable Diffusion 3 CLIP whose states follow each other; it may lack some.

    CLIP-L's and CLIP-G's tokens are at the same places, and their states lie beside each other.
    """
    own = {name for name, part in clip.cond_stage_model.named_children() if part is not None}
    found = {"l": bool(own & {"clip_l", "clip_g"}), "t5xxl": "t5xxl" in own}
    return tuple(name for name, there in found.items() if there) or ("",)


class TextPlaces:
    """Places of words in the states of one encoder; `nothing` [1, 64, d] are its states of the empty prompt.

    `tokenizer` is the CLIP's word for the encoder's tokenizer. Without it, it is the last one: where there are several, that
    one's states are the context.
    """

    def __init__(self, clip: Any, nothing: Tensor, tokenizer: str = ""):
        self._clip = clip
        self._tokenizer = tokenizer
        whole = self._ids("")
        self._filling = whole[-1] if len(whole) > 1 and whole[-1] == whole[-2] else None
        self._empty = self._words_of(whole)
        other = self._words_of(self._ids("a"))
        self._head = next(i for i, (a, b) in enumerate(zip([*self._empty, None], other, strict=False)) if a != b)
        states = int(nothing[0].abs().sum(1).ne(0).sum())
        self._left_out = max(len(whole) - states, 0) if self._filling is None else 0

    def end(self, prompt: str) -> int:
        """The place behind the last word; RequestError for a prompt of more tokens than are looked at."""
        words = len(self._words_of(self._ids(prompt.rstrip()))) - len(self._empty)
        end = self._head - self._left_out + words
        if end > LENGTH:
            raise RequestError(f"a prompt has {end} tokens, closed forms look at {LENGTH}: shorten {prompt[:LENGTH]!r}")
        return end

    def _ids(self, prompt: str) -> list[Any]:
        found = self._clip.tokenize(prompt, **unweighted(self._clip))
        chunks = found[self._tokenizer] if self._tokenizer else list(found.values())[-1]
        return [pair[0] for pair in chunks[0]]

    def _words_of(self, ids: Sequence[Any]) -> list[Any]:
        """The tokens without the filling behind them."""
        n = len(ids)
        while self._filling is not None and n and ids[n - 1] == self._filling:
            n -= 1
        return list(ids[:n])
