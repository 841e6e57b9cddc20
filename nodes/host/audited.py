"""A MODEL with its CLIP and VAE as what an audit attacks, and what is said under the node meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils

from eraser_core.denoiser import Rows
from eraser_core.evaluation.attacks.case import GRADIENT
from eraser_core.evaluation.examiner import Examiner
from eraser_core.models import GUIDANCE, SHIPPED, STEPS
from eraser_core.pocket import Concepts, load_concepts, load_judge

from . import model as host_model
from .audited_denoiser import AuditedDenoiser
from .preview import Clock, show
from .spelled import SPELLED, AuditedPocket, SpelledDenoiser


@dataclass(frozen=True)
class HostModel:
    """What an audit takes for a model."""

    denoiser: AuditedDenoiser
    examiner: Examiner
    concepts: Concepts | None


def opened(model: Any, clip: Any, vae: Any, steps: int) -> HostModel:
    """The MODEL, with the pocket models' judge where it is one of those. `steps` 0 is what suits the model."""
    family = host_model.family(model)
    if family not in SHIPPED:
        kind = SpelledDenoiser if family in SPELLED else AuditedDenoiser
        denoiser = kind(model, clip, vae)
        examiner = Examiner(denoiser, denoiser.decode_images, None, guidance=GUIDANCE, steps=steps or STEPS)
        return HostModel(denoiser, examiner, None)
    own = SHIPPED[family](str(model.load_device))
    shipped = host_model.base_hash(host_model.weights(model)) == own.base_hash
    pocket = AuditedPocket(model, clip, vae, own) if shipped else AuditedDenoiser(model, clip, vae)
    examiner = Examiner(pocket, pocket.decode_images, load_judge(), guidance=own.guidance, steps=steps or own.steps)
    return HostModel(pocket, examiner, load_concepts())


class AuditProgress:
    """The bar and the words: which attack is run, and how long all of them will still take."""

    def __init__(self, node_id: str):
        self._bar, self._node_id = comfy.utils.ProgressBar(100), node_id
        self._rows, self._phase, self._clock = 1.0, "drawing the concept by its name", Clock()

    def planned(self, rows: float) -> None:
        """An audit's `on_plan`."""
        self._rows, self._clock = max(rows, 1.0), Clock()

    def attack(self, number: int, count: int, name: str) -> None:
        """An audit's `on_attack`."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if name:
            self._phase = f"attack {number + 1} of {count}, {name}"
            show(self._phase, self._node_id)

    def forward(self, rows: Rows) -> None:
        """A denoiser's `on_forward`."""
        part = min((rows.no_grad + GRADIENT * rows.grad) / self._rows, 1.0)
        self._bar.update_absolute(round(100 * part), 100)
        if self._clock.due():
            show(f"{self._phase}{self._clock.left(part)}", self._node_id)
