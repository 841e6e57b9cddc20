"""A MODEL with its CLIP and VAE as what an audit attacks, and what is said under the node meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.denoiser import Context, Rows
from eraser_core.errors import RequestError
from eraser_core.evaluation.attacks.case import GRADIENT
from eraser_core.evaluation.examiner import Examiner
from eraser_core.models import GUIDANCE, SHIPPED, STEPS
from eraser_core.pocket import Concepts, load_concepts, load_judge

from . import model as host_model
from .denoiser import HostDenoiser
from .preview import Clock, check_vae, decode, show


class AuditedDenoiser(HostDenoiser):
    """A MODEL that attacks draw with, and that reads pictures through its VAE."""

    def __init__(self, model: Any, clip: Any, vae: Any):
        super().__init__(model, clip, *2 * (host_model.own_size(model),))
        check_vae(vae, self)
        self._vae = vae
        if self.family not in SHIPPED:
            self.use("low")  # attacks take gradients of eight pictures at once

    def excess(self, prompt: str) -> int:
        """How many of a prompt's words are in further chunks; RequestError for a word that the model has never heard."""
        unknown: list[str] = getattr(self._tokenizer(), "unknown_words", lambda text: [])(prompt)
        if unknown:
            raise RequestError(f"the model does not know the word {unknown[0]!r}")
        return sum(1 for chunk in self._sections(prompt, words=True)[1:] for _, _, word in chunk if word != 0)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Latents [b, c, h / 8, w / 8] of pictures [b, 3, h, w] in [0, 1], in the model's scale."""
        latents = self._vae.encode(images.movedim(1, -1)).clone()
        self.release()  # the host may have moved the UNet out for the VAE
        return self._model.model.process_latent_in(latents).float().to(self.device)

    @torch.no_grad()
    def decode_images(self, latents: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] in [0, 1], on the CPU."""
        return decode(self._vae, self, latents).movedim(-1, 1)


class AuditedPocket(AuditedDenoiser):
    """The shipped pocket model, whose words' embeddings the engine reads from its own copy of the same file."""

    def __init__(self, model: Any, clip: Any, vae: Any, own: PocketDenoiser):
        super().__init__(model, clip, vae)
        self._own = own

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._own.vocabulary

    @property
    def word_embeddings(self) -> Tensor:
        return self._own.word_embeddings

    def encode_changed(self, prompts: Sequence[str], change: Callable[[Tensor], Tensor]) -> Context:
        context = self._own.encode_changed(prompts, change)
        return context.with_tokens(context.tokens.to(self.device))

    def _encode(self, prompt: str) -> Context:
        """A prompt that is too long loses its end, as in the engine."""
        if self.excess(prompt):
            context = self._own.encode([prompt])
            return context.with_tokens(context.tokens.to(self.device))
        return super()._encode(prompt)


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
        denoiser = AuditedDenoiser(model, clip, vae)
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
