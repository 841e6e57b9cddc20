"""What a closed form asks of a model, and how a model says that a text reaches it in more than one piece.

Stable Diffusion 3 reads one sequence that is two: the tokens of CLIP and behind them those of T5. A concept's words lie in both,
at other places, so what is laid over each other word by word is one such stretch at a time. It and Flux.1 also read one vector
for the whole text, by a matrix of its own: that is a place of its own, and solved for by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from .denoiser import Context, Prediction, Tune


class TextReader(Protocol):
    """Text states and the matrices that read them: the part of a `Denoiser` that closed forms use."""

    family: str

    def encode(self, prompts: Sequence[str]) -> Context:
        """Contexts [len(prompts), n, d] of whole prompts, without gradient."""

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        """Their first n tokens [len(prompts), n, d]."""

    def as_read(self, tokens: Tensor) -> Tensor:
        """Tokens [..., d] as the matrices are given them."""

    def token_count(self, prompt: str) -> int:
        """The place behind a prompt's last word."""

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        """The matrices, by canonical name."""


class Predicts(Protocol):
    """As much of a schedule as a file says."""

    @property
    def prediction(self) -> Prediction:
        """What the network's native output is an estimate of."""


class TextModel(TextReader, Protocol):
    """A model that can be read and need not be drawn with: all that a closed form and its file ask for."""

    base_hash: str

    @property
    def schedule(self) -> Predicts:
        """What the network predicts."""

    def file_names(self) -> Mapping[str, str]:
        """Canonical module name -> kohya's name of it (`lora_unet_...`)."""


@runtime_checkable
class Placed(Protocol):
    """A reader beside which the model reads texts in other ways."""

    def places(self) -> Sequence[TextReader]:
        """One for each kind of states, each with its own matrices; the tokens' first."""


def places(reader: TextReader) -> Sequence[TextReader]:
    """All the ways in which a model reads a text; most have one."""
    return reader.places() if isinstance(reader, Placed) else (reader,)


@runtime_checkable
class Stretched(Protocol):
    """A reader whose states are several texts one behind the other, each with words at places of its own."""

    def stretches(self) -> Sequence[TextReader]:
        """One for each, in the order of the states, with the same matrices."""


def stretches(reader: TextReader) -> Sequence[TextReader]:
    """The pieces in which a reader's words are found; most have one."""
    return reader.stretches() if isinstance(reader, Stretched) else (reader,)


def check_room(reader: TextReader, prompts: Sequence[str]) -> None:
    """RequestError for a prompt that is longer than what a closed form looks at, told by its tokens alone."""
    for piece in stretches(reader):
        for prompt in prompts:
            piece.token_count(prompt)
