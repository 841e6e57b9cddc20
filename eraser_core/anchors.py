"""Choosing what takes a concept's place: the nearest kept concept in the text encoder's own space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoiser import Denoiser
from .errors import RequestError


def embed(denoiser: Denoiser, phrases: Sequence[str]) -> Tensor:
    """[len(phrases), n * d]: everything that cross-attention reads of each phrase, its padding included.

    The last word's own hidden state says less: on the pocket model the nearest by it shares the concept's category half
    as often as the nearest by the whole context does (42 against 86 of 276; docs/results/anchors.md).
    """
    return denoiser.encode(phrases).tokens.float().flatten(1)


def nearest(denoiser: Denoiser, concept: str, candidates: Sequence[str], prompts: Sequence[str] = ("{}",)) -> str:
    """The candidate whose embedding has the largest cosine with the concept's, both centred on the candidates' mean.

    Embeddings are means over `prompts`, with the concept in the place of {}. A style needs the prompts in which it is
    erased: alone it reads otherwise than after an object's name.
    """
    others = [c for c in candidates if c.lower() != concept.lower()]
    if not others:
        raise RequestError(f"no anchor can be chosen for {concept!r}: name one, or concepts to retain")
    vectors = torch.stack(
        [embed(denoiser, [prompt.replace("{}", word) for prompt in prompts]).mean(0) for word in [concept, *others]]
    )
    vectors = vectors - vectors[1:].mean(0)
    return others[int(F.cosine_similarity(vectors[:1], vectors[1:]).argmax())]
