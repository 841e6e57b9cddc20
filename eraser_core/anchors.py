"""Choosing what takes a concept's place: the nearest kept concept in the text encoder's own space."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .denoiser import Denoiser
from .errors import RequestError


def embed(denoiser: Denoiser, phrases: Sequence[str]) -> Tensor:
    """[len(phrases), d]: the hidden state of each phrase's last word, which in a causal encoder has read them all."""
    tokens = denoiser.encode(phrases).tokens
    return tokens[range(len(phrases)), [denoiser.token_count(p) - 1 for p in phrases]].float()


def nearest(denoiser: Denoiser, concept: str, candidates: Sequence[str]) -> str:
    """The candidate whose embedding has the largest cosine with the concept's, both centred on the candidates' mean."""
    others = [c for c in candidates if c.lower() != concept.lower()]
    if not others:
        raise RequestError(f"no anchor can be chosen for {concept!r}: name one, or concepts to retain")
    vectors = embed(denoiser, [concept, *others])
    vectors = vectors - vectors[1:].mean(0)
    return others[int(F.cosine_similarity(vectors[:1], vectors[1:]).argmax())]
