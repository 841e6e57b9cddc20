"""What a training will cost, before it starts: memory from a step with tensors that have sizes only, time from one row."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from eraser_core.denoiser import Context
from eraser_core.edits import make_edit
from eraser_core.errors import RequestError
from eraser_core.memory_tracker import Tracker, forwards, take_step
from eraser_core.request import Request
from eraser_core.training import Learner, TrainingSettings

from .denoiser import HostDenoiser

log = logging.getLogger(__name__)
GB = 1e9
RANKS = (16, 4)
SAFETY = 1.15  # allocators round up and fragment
BACKWARD = 2.0  # a backward costs about twice its forward


@dataclass(frozen=True)
class Plan:
    """One choice of settings: rows in a batch, rank (0 is dense), and the side of the latents against what was asked."""

    batch: int
    rank: int
    scale: float = 1.0


def sides(denoiser: HostDenoiser, plan: Plan) -> tuple[int, int]:
    """Height and width of the latents; the UNets here halve them three times at most."""
    height, width = denoiser.latent_shape[1:]
    if plan.scale == 1:
        return height, width
    return max(8, round(height * plan.scale / 8) * 8), max(8, round(width * plan.scale / 8) * 8)


def need(
    denoiser: HostDenoiser, settings: TrainingSettings, learner: type[Learner], request: Request, plan: Plan
) -> float | None:
    """Bytes that a run needs beside the model, which is loaded; None where this host's kernels cannot be walked through.

    One step (edit, optimiser, forwards, backward) on PyTorch's fake tensors: its peak in seconds, without the memory.
    """
    context = denoiser.encode([""])
    denoiser.load()  # both before the fake tensors: they are kept
    latents = (denoiser.latent_shape[0], *sides(denoiser, plan))
    pools = 4 * settings.kept_latents(request) * torch.Size(latents).numel()
    pairs = sum(len(target.pairs()) for target in request.targets)
    texts = 4 * (2 * pairs + len(request.retain)) * context.tokens.numel()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, denoiser.stood_in_for(mode.from_tensor):
            tracker = Tracker()
            for weight in denoiser.frozen():
                tracker.leave_out(weight)
            with tracker:
                edit = make_edit(denoiser, settings.tune, plan.rank, torch.Generator().manual_seed(0))
                sizes = forwards(settings, learner, plan.batch, context.tokens.shape[1])
                moments = 2 if settings.optimizer == "adam" else 0
                take_step(denoiser, edit, moments, (_inputs(denoiser, context, latents, *size) for size in sizes))
            return SAFETY * (tracker.peak + pools + texts)
    except RuntimeError as error:  # a kernel without a rule for sizes (xformers, a custom node's)
        log.info("how much memory this training needs cannot be said beforehand: %s", error)
        return None


def _inputs(
    denoiser: HostDenoiser, context: Context, latents: tuple[int, int, int], rows: int, tokens: int
) -> tuple[torch.Tensor, torch.Tensor, Context]:
    z_t = torch.zeros((rows, *latents), device=denoiser.device)
    t = torch.zeros(rows, dtype=torch.long, device=denoiser.device)
    words = replace(context, tokens=context.tokens[:, :1].expand(-1, tokens, -1), mask=None)
    return z_t, t, words.expand(rows)


def check(
    denoiser: HostDenoiser,
    settings: TrainingSettings,
    learner: type[Learner],
    request: Request,
    needed: float,
    free: float,
) -> None:
    """RequestError, with settings that fit, when a run needs more bytes beside the model than are free."""
    if needed <= free:
        return
    preset = "low" if denoiser.recompute else "normal"
    said = f"with memory {preset} this training needs about {needed / GB:.1f} GB beside the model, {free / GB:.1f} GB are free"
    rank = settings.rank
    ranks = [rank, *(r for r in RANKS if not rank or r < rank)]
    # giving up batch, then rank, then size
    for scale, r, batch in product((1.0, 0.75, 0.5), ranks, dict.fromkeys((settings.batch, 1))):
        plan = Plan(batch, r, scale)
        if (need(denoiser, settings, learner, request, plan) or 0.0) <= free:
            height, width = (denoiser.pixels * side for side in sides(denoiser, plan))
            smaller = f"rank {r}, " if r != rank else ""
            raise RequestError(f"{said}: it fits with {smaller}batch {batch}, width {width}, height {height}")
    other = "tune = text" if denoiser.recompute else "memory = low or tune = text"
    raise RequestError(f"{said}: even small settings do not fit; close other programs, or choose {other}")


def seconds(denoiser: HostDenoiser, settings: TrainingSettings, rows_a_step: int, request: Request) -> float:
    """A rough time for the whole run, from one row at full size.

    `rows_a_step` is how many rows with gradient the method runs in a step.
    """
    context = denoiser.encode([""])
    z = torch.zeros((1, *denoiser.latent_shape), device=denoiser.device)
    t = torch.zeros(1, dtype=torch.long, device=denoiser.device)
    spent = float("inf")
    for _ in range(2):
        begin = time.perf_counter()
        with torch.no_grad():
            float(denoiser.predict(z, t, context).flatten()[0])  # waits for the device
        spent = min(spent, time.perf_counter() - begin)
    pools = 1 + (settings.retain_weight > 0)
    plain = pool_rows(settings, request)
    if settings.latents == "fresh":
        guided = 2 if settings.guidance > 1 else 1
        plain = settings.iterations * settings.batch * (settings.sampler_steps // 2 * guided + 2) * pools
    elif settings.refresh_every:
        plain += plain * settings.iterations // settings.refresh_every // 16
    relearning = (settings.all_steps - settings.iterations) * settings.further_rows() // 2  # which counts two steps
    return spent * (plain + (1 + BACKWARD + denoiser.recompute) * (settings.iterations * rows_a_step + relearning))


def pool_rows(settings: TrainingSettings, request: Request) -> int:
    """About how many rows without gradient run before the first step: partial denoisings, and the teacher's targets."""
    guided = 2 if settings.guidance > 1 else 1
    return sum(
        -(-shape.size // shape.per_trajectory) * shape.sampler_steps * guided + 2 * shape.size
        for shape in settings.pool_shapes(request).values()
    )


def describe(needed: float | None, free: float, duration: float, memory: str) -> str:
    """One line for the node."""
    unit, value = ("min", duration / 60) if duration >= 90 else ("s", duration)
    size = "an unknown part" if needed is None else f"about {needed / GB:.2f}"
    return f"needs {size} of {free / GB:.1f} GB (memory {memory}) and {value:.0f} {unit}"
