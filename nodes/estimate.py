"""What a training will cost, before it starts: memory and time from tensor sizes, one forward and the free memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from eraser_core.denoiser import Edit
from eraser_core.edits import make_edit
from eraser_core.errors import RequestError
from eraser_core.request import Request
from eraser_core.training import TrainingSettings

from .host_denoiser import HostDenoiser
from .host_recompute import rerouted

GB = 1e9
RANKS = (16, 4)
SIDES = (8, 16, 24)  # of latents; every UNet here halves them three times at most
SAFETY = 1.15  # allocators round up and fragment
FORWARDS = 2  # of the student in a step: with the hidden prompt and, the retained texts in the same one, without
BACKWARD = 2.0  # a backward costs about twice its forward


@dataclass(frozen=True)
class Plan:
    """One choice of settings: rows in a batch, rank (0 is dense), and the side of the latents against what was asked."""

    batch: int
    rank: int
    scale: float = 1.0


@dataclass(frozen=True)
class Costs:
    """What memory depends on: bytes saved for the backward = edited + (linear x + quadratic x^2) a row, x latent pixels.

    `edited` are the edited weights W', once a forward; the quadratic part are attention maps, which some hosts'
    attention keeps and others' does not. `block` is the same parabola for the largest block, where the backward
    computes one block after the other again, and `together` the batches that go through it at once.
    """

    edited: float
    linear: float
    quadratic: float
    block: tuple[float, float, float]
    together: int
    pixels: int
    shapes: tuple[tuple[int, ...], ...]
    graphs: int  # forwards whose graphs are alive at once, in batches
    moments: int  # of the optimiser
    kept: int  # numbers a latent pixel, of all latents in the pools

    def bytes(self, plan: Plan) -> float:
        """Beside the model itself."""
        x = self.pixels * plan.scale**2
        rows = (self.linear * x + self.quadratic * x * x) * plan.batch * self.graphs
        tuned = sum(torch.Size(s).numel() for s in self.shapes)
        numbers = tuned
        if plan.rank:
            numbers = sum(plan.rank * (s[0] + torch.Size(s[1:]).numel()) for s in self.shapes if len(s) > 1)
        # one set more for what allocators keep of the changes on the way: SDXL grew by 4.1 GB on a CPU, two sets are 2.7
        edited = (FORWARDS + 1) * self.edited
        constant, linear, quadratic = self.block
        again = constant + (linear * x + quadratic * x * x) * plan.batch * self.together
        return SAFETY * (rows + edited + again + 4 * numbers * (2 + self.moments) + 4 * self.kept * x)

    def fitting(self, plan: Plan, free: float) -> Plan | None:
        """The first plan that fits, giving up batch, then rank, then size."""
        ranks = [plan.rank, *(r for r in RANKS if not plan.rank or r < plan.rank)]
        for scale, rank, batch in product((1.0, 0.75, 0.5), ranks, dict.fromkeys((plan.batch, 1))):
            other = Plan(batch, rank, scale)
            if self.bytes(other) <= free:
                return other
        return None


def measure(denoiser: HostDenoiser, settings: TrainingSettings, request: Request) -> Costs:
    """Three small forwards with gradient: a parabola in the latent pixels, whose constant are the edited weights."""
    weights = denoiser.weights(settings.tune)
    edit = make_edit(denoiser, settings.tune, 1, torch.Generator().manual_seed(0))
    saved = []
    for side in SIDES:
        with _saved_bytes(denoiser) as count:
            _small_forward(denoiser, edit, side)
        saved.append(count[0])
    largest = [_largest_block(denoiser, edit, side) if denoiser.recompute else 0.0 for side in SIDES]
    return Costs(
        *_parabola(saved),
        _parabola(largest),
        1 + (settings.retain_weight > 0),
        denoiser.latent_shape[1] * denoiser.latent_shape[2],
        () if settings.tune == "text" else tuple(tuple(w.shape) for w in weights.values()),
        graphs=2 + (settings.retain_weight > 0),
        moments=2 if settings.optimizer == "adam" else 0,
        kept=settings.kept_latents(request) * denoiser.latent_shape[0],
    )


def _small_forward(denoiser: HostDenoiser, edit: Edit, side: int) -> None:
    z = torch.zeros((1, denoiser.latent_shape[0], side, side), device=denoiser.device)
    denoiser.predict(z, torch.zeros(1, dtype=torch.long, device=denoiser.device), denoiser.encode([""]), edit)


def _largest_block(denoiser: HostDenoiser, edit: Edit, side: int) -> float:
    """The most bytes that any one block saves for its backward."""
    sizes = [0.0]

    def counted(module: torch.nn.Module, *args: Any, **words: Any) -> Any:
        with _saved_bytes(denoiser) as count:
            out = module(*args, **words)
        sizes.append(count[0])
        return out

    denoiser.recompute = False
    try:
        with rerouted(denoiser.network, counted):
            _small_forward(denoiser, edit, side)
    finally:
        denoiser.recompute = True
    return max(sizes)


def _parabola(values: Sequence[float]) -> tuple[float, float, float]:
    """Constant, linear and quadratic term in the latent pixels of SIDES; none below zero."""
    powers = torch.tensor([[1.0, x, x * x] for x in (side**2 for side in SIDES)], dtype=torch.float64)
    found = torch.linalg.solve(powers, torch.tensor(values, dtype=torch.float64)).clamp(min=0)
    constant, linear, quadratic = found.tolist()
    return constant, linear, quadratic


@contextmanager
def _saved_bytes(denoiser: HostDenoiser) -> Iterator[list[float]]:
    """Counts what autograd keeps for the backward, without the model's own parameters."""
    seen = {p.untyped_storage().data_ptr() for p in denoiser.frozen()}
    count = [0.0]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            count[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield count


def seconds(denoiser: HostDenoiser, settings: TrainingSettings, forwards_a_step: int, request: Request) -> float:
    """A rough time for the whole run, from one row at full size.

    `forwards_a_step` is how many batches with gradient the method runs in a step, without the retain set's.
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
    with_gradient = settings.iterations * settings.batch * (forwards_a_step + pools - 1)
    return spent * (plain + (1 + BACKWARD + denoiser.recompute) * with_gradient)


def pool_rows(settings: TrainingSettings, request: Request) -> int:
    """About how many rows without gradient run before the first step: partial denoisings, and the teacher's targets."""
    guided = 2 if settings.guidance > 1 else 1
    return sum(
        -(-shape.size // shape.per_trajectory) * shape.sampler_steps * guided + 2 * shape.size
        for shape in settings.pool_shapes(request).values()
    )


def check(costs: Costs, denoiser: HostDenoiser, settings: TrainingSettings, free: float) -> float:
    """Bytes that the run needs beside the model; RequestError with settings that fit when there are not as many."""
    plan = Plan(settings.batch, settings.rank)
    need = costs.bytes(plan)
    if need <= free:
        return need
    other = costs.fitting(plan, free)
    said = f"this training needs about {need / GB:.1f} GB beside the model, {free / GB:.1f} GB are free"
    if other is None:
        raise RequestError(f"{said}: even small settings do not fit; close other programs, or choose tune = text")
    height, width = (8 * max(8, round(side * other.scale / 8) * 8) for side in denoiser.latent_shape[1:])
    rank = f"rank {other.rank}, " if other.rank != plan.rank else ""
    raise RequestError(f"{said}: it fits with {rank}batch {other.batch}, width {width}, height {height}")


def describe(need: float, free: float, duration: float, memory: str) -> str:
    """One line for the node."""
    unit, value = ("min", duration / 60) if duration >= 90 else ("s", duration)
    return f"needs about {need / GB:.2f} of {free / GB:.1f} GB (memory {memory}) and {value:.0f} {unit}"
