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


def say(text: str, node_id: str) -> None:
    """Words under the node, and in the log."""
    log.info("%s", text)
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


class Report:
    """The training's `on_step`: progress bar, preview, and the host's question whether the user has cancelled.

    Before the first step, `preparing` shows how far the pictures are from which it learns; `rows` is about how many
    forward rows they take.
    """

    def __init__(self, total: int, rows: int, preview: Preview | None, node_id: str):
        self._bar, self._preparing = comfy.utils.ProgressBar(total), comfy.utils.ProgressBar(max(rows, 1))
        self._total, self._rows, self._preview, self._node_id = total, max(rows, 1), preview, node_id
        self._first: int | None = None
        self._said = time.monotonic()

    def preparing(self, rows: Rows) -> None:
        """A denoiser's `on_forward`."""
        self._first = rows.no_grad if self._first is None else self._first
        if time.monotonic() - self._said > SAY_SECONDS:
            self._said = time.monotonic()
            done = min(rows.no_grad - self._first, self._rows)
            self._preparing.update_absolute(done, self._rows)
            say(f"making the pictures to learn from: {100 * done // self._rows} %", self._node_id)

    def __call__(self, step: Step) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        self._said = float("inf")  # the preparations are over
        shown = None
        if self._preview is not None and self._due(step.step):
            shown = ("JPEG", self._preview.picture(step.learner.edit), WIDEST)
        self._bar.update_absolute(step.step, self._total, shown)
        if self._due(step.step):
            losses = ", ".join(f"{name} {loss:.4f}" for name, loss in step.losses.items())
            say(f"step {step.step} of {self._total}: {losses}", self._node_id)

    def _due(self, step: int) -> bool:
        every = max(1, self._total // PREVIEWS)
        return step % every == 0 or step == self._total
