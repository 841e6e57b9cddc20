"""From what the user calls a model to a model that can be erased from, drawn with and, where there is a judge, scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .backends.diffusers import DiffusersDenoiser
from .backends.find import find_model
from .backends.pocket import PocketDenoiser, load_pocket_denoiser, load_pocket_flow
from .backends.stored_model import Loading, read
from .backends.transformer_folder import READABLE, transformer_folder
from .backends.transformer_reader import TransformerReader
from .errors import ModelError, RequestError
from .evaluation.examiner import Examiner
from .pocket import Concepts, load_concepts, load_judge
from .sampling import Solver

SHIPPED: Mapping[str, Callable[[str], PocketDenoiser]] = {
    "pocket": lambda device: load_pocket_denoiser(device=device),
    "pocket-flow": load_pocket_flow,
}
GUIDANCE, STEPS = 7.5, 25


@dataclass(frozen=True)
class Model:
    """A denoiser, how its pictures are sampled, and for the pocket models what they know."""

    denoiser: DiffusersDenoiser
    examiner: Examiner
    concepts: Concepts | None


def open_model(
    name: str,
    device: str = "cpu",
    guidance: float | None = None,
    steps: int | None = None,
    suite_seed: int = 0,
    loading: Loading | None = None,
    allow_download: bool = False,
    solver: Solver = "ddim",
    remember: bool = False,
) -> Model:
    """`pocket`, `pocket-flow`, a single-file checkpoint, or a model folder in diffusers' layout. ModelError says what is wrong.

    `guidance`, `steps`, `suite_seed`, `solver` and `remember` are the examiner's.
    """
    if steps is not None and not 1 <= steps <= 1000:
        raise RequestError(f"{steps} sampling steps: a picture takes from 1 to 1000")
    if name in SHIPPED:
        pocket = SHIPPED[name](device)
        examiner = Examiner(
            pocket,
            pocket.decode,
            load_judge(device=device),
            guidance=guidance or pocket.guidance,
            steps=steps or pocket.steps,
            suite_seed=suite_seed,
            solver=solver,
            remember=remember,
        )
        return Model(pocket, examiner, load_concepts())
    loading = loading or Loading(device=device)
    denoiser = read(find_model(name, loading, allow_download), loading)
    examiner = Examiner(
        denoiser,
        denoiser.decode,
        None,
        guidance=guidance or GUIDANCE,
        steps=steps or STEPS,
        suite_seed=suite_seed,
        solver=solver,
        remember=remember,
    )
    return Model(denoiser, examiner, None)


def open_reader(name: str, device: str = "cpu") -> TransformerReader:
    """A folder of Flux.1 or another transformer in diffusers' layout, to be erased from by a closed form and not drawn with.

    Of the transformer a few matrices are read, and of the text encoders a block at a time. ModelError or FileFormatError says what
    is missing or wrong.
    """
    found = transformer_folder(Path(name))
    if found is None:
        raise ModelError(
            f"{name} is no model folder in diffusers' layout that holds a transformer: give one of {READABLE}, or open it with "
            "open_model"
        )
    return TransformerReader(found, device)
