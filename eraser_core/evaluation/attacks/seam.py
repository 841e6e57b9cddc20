"""What an attack asks of a model beside the engine's seam (eraser_core/denoiser.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from ...denoiser import Context, Denoiser
from ...pocket.concepts import Concepts
from ..examiner import Examiner

NOT_SPELLED = "the words' embeddings of this model are not at hand"


class Audited(Denoiser, Protocol):
    """What an audit asks of a model beside the seam."""

    def excess(self, prompt: str) -> int:
        """How many of a prompt's tokens the text encoder has no room for."""

    def all_weights(self) -> Mapping[str, Tensor]:
        """Every parameter by canonical name."""


@runtime_checkable
class Seeing(Protocol):
    """A model that reads pictures: attacks may learn from drawings by hand."""

    def encode_images(self, images: Tensor) -> Tensor:
        """Latents [b, c, h / 8, w / 8] of pictures [b, 3, h, w] in [0, 1]."""


@runtime_checkable
class Spelling(Protocol):
    """A model whose words' embeddings are at hand."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of every token by its number; "" for one that is no whole word."""

    @property
    def word_embeddings(self) -> Tensor:
        """[words, d]."""

    def encode_changed(self, prompts: Sequence[str], change: Callable[[Tensor], Tensor]) -> Context:
        """Contexts [len(prompts), n, d] with the words' embeddings [len(prompts), n, d] changed; gradients flow."""


class SpellingModel(Audited, Spelling, Protocol):
    """Both."""


class Opened(Protocol):
    """A model that is audited: `models.Model`, or a host's."""

    @property
    def denoiser(self) -> Audited: ...

    @property
    def examiner(self) -> Examiner: ...

    @property
    def concepts(self) -> Concepts | None: ...
