"""Choosing what takes a concept's place, in the text encoder's own space: a near object, a far style."""

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


def nearest(denoiser: Denoiser, concept: str, candidates: Sequence[str]) -> str:
    """The candidate whose embedding has the largest cosine with the concept's, both centred on the candidates' mean."""
    return _by_cosine(denoiser, concept, candidates, ("{}",))[-1]


def farthest(denoiser: Denoiser, concept: str, candidates: Sequence[str], prompts: Sequence[str]) -> str:
    """The candidate with the smallest cosine, of embeddings that are means over `prompts` with the word in {}'s place.

    For a style: a near one is drawn much like it, so that what is left of it and what has come in its place cannot be told
    apart (docs/results/pocket_styles.md).
    """
    return _by_cosine(denoiser, concept, candidates, prompts)[0]


def _by_cosine(denoiser: Denoiser, concept: str, candidates: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """The candidates from the farthest to the nearest."""
    others = [c for c in candidates if c.lower() != concept.lower()]
    if not others:
        raise RequestError(f"no anchor can be chosen for {concept!r}: name one, or concepts to retain")
    vectors = torch.stack(
        [embed(denoiser, [prompt.replace("{}", word) for prompt in prompts]).mean(0) for word in [concept, *others]]
    )
    vectors = vectors - vectors[1:].mean(0)
    return [others[i] for i in F.cosine_similarity(vectors[:1], vectors[1:]).argsort(stable=True).tolist()]
