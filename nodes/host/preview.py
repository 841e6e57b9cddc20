"""Pictures of the concept fading while it is erased, and the words under the node."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from PIL import Image
from server import PromptServer
from torch import Tensor

from eraser_core.denoiser import Edit, Rows
from eraser_core.errors import RequestError
from eraser_core.request import Request
from eraser_core.sampling import noise_for, sample

from .denoiser import HostDenoiser
from .schema import EMPTY

if TYPE_CHECKING:
    from eraser_core.training import Step

log = logging.getLogger(__name__)
PICTURES = 4
STEPS = 8
PREVIEWS = 8  # in a run
WIDEST = 512
SAY_SECONDS = 1.0
LONG = 90.0  # seconds that are said in minutes


def say(text: str, node_id: str) -> None:
    """Words under the node, and in the log."""
    log.info("%s", text)
    show(text, node_id)


def show(text: str, node_id: str) -> None:
    """Words under the node."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id:
        server.send_progress_text(text, node_id)


def check_vae(vae: Any, denoiser: HostDenoiser) -> None:
    """RequestError when there is no VAE, or it is another kind of model's: to be said before anything is drawn."""
    if vae is None or getattr(vae, "first_stage_model", vae) is None:  # the host's own way to say that there is none
        raise RequestError(EMPTY["VAE"])
    makes = denoiser.latent_shape[0]
    reads = getattr(vae, "latent_channels", makes)
    if reads != makes:
        raise RequestError(
            f"this VAE reads latents of {reads} channels, the MODEL makes {makes}: connect the VAE of the same checkpoint"
        )


def decode(vae: Any, denoiser: HostDenoiser, latents: Tensor) -> Tensor:
    """Pictures [b, h, w, 3] in [0, 1], on the CPU, of latents in the model's scale."""
    images: Tensor = vae.decode(denoiser.latents_for_vae(latents))
    denoiser.release()  # the host may have moved the UNet out for the VAE
    if images.dim() == 5:  # one frame of a video
        images = images.flatten(0, 1)
    return images[..., :3].float().clamp(0, 1).cpu()


class Preview:
    """Above the untouched model's pictures of the erased concepts, below the present ones, from the same noise."""

    def __init__(self, denoiser: HostDenoiser, request: Request, vae: Any, guidance: float):
        check_vae(vae, denoiser)
        self._denoiser, self._vae, self._guidance = denoiser, vae, guidance
        prompts = [target.pairs()[0][0] for target in request.targets]
        prompts = (prompts * PICTURES)[: max(2, min(PICTURES, len(prompts)))]
        self._contexts, self._negative = denoiser.encode(prompts), denoiser.encode([""])
        self._noise = noise_for(denoiser.latent_shape, 0, range(len(prompts))).to(denoiser.device)
        self._before: np.ndarray | None = None

    def picture(self, edit: Edit) -> Image.Image:
        """[2 rows of pictures]."""
        if self._before is None:
            self._before = self._row(None)
        grid = np.concatenate([self._before, self._row(edit)])
        image = Image.fromarray(grid)
        image.thumbnail((WIDEST, WIDEST))
        return image

    @torch.no_grad()
    def _row(self, edit: Edit | None) -> np.ndarray:
        """[h, b * w, 3] uint8."""
        latents = sample(self._denoiser, self._noise, self._contexts, self._negative, STEPS, self._guidance, edit)
        strip = torch.cat(list(decode(self._vae, self._denoiser, latents)), 1)
        return (strip.numpy() * 255).round().astype(np.uint8)


class Clock:
    """How long a phase has taken, what is left of it, and whether the last words are old enough for others."""

    def __init__(self) -> None:
        self.began = self._said = time.monotonic()

    def left(self, part: float) -> str:
        """How long the rest takes, once a part of it is done."""
        seconds = (time.monotonic() - self.began) * (1 / part - 1) if part else 0.0
        if not seconds:
            return ""
        return f", {seconds / 60:.0f} min left" if seconds >= LONG else f", {seconds:.0f} s left"

    def due(self) -> bool:
        """Whether something was said SAY_SECONDS ago or earlier; then the count begins anew."""
        now = time.monotonic()
        due = now - self._said > SAY_SECONDS
        self._said = now if due else self._said
        return due


class Report:
    """The training's `on_step` and `on_fill`: progress bar, preview, words, and the host's question whether to go on.

    Before the first step, `preparing` shows how far the pictures are from which it learns: `latents` of them, which take
    about `rows` forward rows.
    """

    def __init__(self, total: int, latents: int, rows: int, preview: Preview | None, node_id: str):
        self._bar, self._preparing = comfy.utils.ProgressBar(total), comfy.utils.ProgressBar(max(rows, 1))
        self._total, self._latents, self._rows = total, latents, max(rows, 1)
        self._preview, self._node_id = preview, node_id
        self._first: int | None = None
        self._filled, self._filling = 0, True
        self._clock = Clock()

    def preparing(self, rows: Rows) -> None:
        """A denoiser's `on_forward`."""
        self._first = rows.no_grad if self._first is None else self._first
        if self._filling and self._clock.due():
            done = min(rows.no_grad - self._first, self._rows)
            self._preparing.update_absolute(done, self._rows)
            part = done / self._rows
            count = max(self._filled, int(part * self._latents))  # the pool takes them in large lots
            show(
                f"1 of 2, filling: {count} of {self._latents} latents to learn from{self._clock.left(part)}",
                self._node_id,
            )

    def filled(self, count: int) -> None:
        """`count` more z_t are in the pools."""
        self._filled += count

    def __call__(self, step: Step) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._filling:  # the first step's own time is left out of what is left
            self._filling, self._clock.began = False, time.monotonic()
        every = max(1, self._total // PREVIEWS)
        landmark = step.step % every == 0 or step.step == self._total
        shown = None
        if self._preview is not None and landmark:
            shown = ("JPEG", self._preview.picture(step.confined or step.learner.edit), WIDEST)
        self._bar.update_absolute(step.step, self._total, shown)
        if landmark or self._clock.due():
            losses = ", ".join(f"{name} {loss:.4f}" for name, loss in step.losses.items())
            left = self._clock.left((step.step - 1) / max(self._total - 1, 1))
            text = f"2 of 2, training: step {step.step} of {self._total}{left}: {losses}"
            (say if landmark else show)(text, self._node_id)
