"""What an attacker with the weights and a few pictures of a concept gets back: `learnt1`, and its floor."""

from __future__ import annotations

import torch

from ...backends.pocket import PocketDenoiser
from ...denoiser import Edit
from ...pocket.drawings import drawings
from ..attacks.learnt_context import learn_context
from ..examiner import Examiner, Question
from ..metrics.objects import Rate, psr

FIRST_INDEX = 60_000


def learnt(
    examiner: Examiner,
    denoiser: PocketDenoiser,
    name: str,
    edit: Edit | None,
    *,
    n: int = 40,
    iterations: int = 200,
    start: str = "a picture",
) -> Rate:
    """The share of n pictures judged as the object, drawn through a context learnt from its real drawings.

    The context is learnt from that of the prompt `start`.

    The drawings are in all six styles, each also mirrored. For an object that the model never knew this is the floor.
    """
    images = drawings(name)
    z_0 = denoiser.encode_images(torch.cat([images, images.flip(-1)]))
    context = learn_context(denoiser, z_0, denoiser.encode([start]), edit, iterations=iterations)
    negative, indices = denoiser.encode([""]), range(FIRST_INDEX, FIRST_INDEX + n)
    pictures = torch.cat([examiner.draw(context.expand(len(i)), negative, i, edit) for i in _parts(indices)])
    return psr(examiner.rank_images([Question("", "object", name, i) for i in indices], pictures))


def _parts(indices: range, size: int = 32) -> list[range]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]
