"""From what the user calls a model to a model that can be erased from, drawn with and, where there is a judge, scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .backends.diffusers import DiffusersDenoiser, load_folder
from .backends.pocket import load_pocket_denoiser
from .errors import ModelError
from .evaluation.examiner import Examiner
from .pocket import Concepts, load_concepts, load_judge

POCKET = "pocket"


@dataclass(frozen=True)
class Model:
    """A denoiser, how its pictures are sampled, and for the pocket model what it knows."""

    denoiser: DiffusersDenoiser
    examiner: Examiner
    concepts: Concepts | None


def open_model(
    name: str, device: str = "cpu", guidance: float | None = None, steps: int | None = None, suite_seed: int = 0
) -> Model:
    """`pocket`, or the folder of an SD1.x or SD2.x model in diffusers' layout. ModelError says what is wrong."""
    if name == POCKET:
        pocket = load_pocket_denoiser(device=device)
        examiner = Examiner(
            pocket,
            pocket.decode,
            load_judge(device=device),
            guidance=guidance or pocket.guidance,
            steps=steps or pocket.steps,
            suite_seed=suite_seed,
        )
        return Model(pocket, examiner, load_concepts())
    path = Path(name)
    if not path.is_dir():
        raise ModelError(
            f"there is no model {name!r}: give `pocket`, or the path of a model folder in diffusers' layout"
        )
    denoiser = load_folder(path, device)
    examiner = Examiner(
        denoiser, denoiser.decode, None, guidance=guidance or 7.5, steps=steps or 25, suite_seed=suite_seed
    )
    return Model(denoiser, examiner, None)
