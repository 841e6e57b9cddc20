"""Where the z_t of a training step come from: partial denoisings, pooled, with the teacher's targets beside them.

The authors denoise anew for every step, with the network being edited, and stop at a random one: on average half the
sampler's steps, twice a step (guidance), for one z_t. A pool takes several z_t from each denoising and draws each of
them many times; the targets of the frozen teacher at a stored z_t never change, so they are stored with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Context, Denoiser, Edit
from .sampling import sample, trajectory

FILL_BATCH = 24
PICTURES_AT_ONCE = 16
OnFill = Callable[[int], None]


@dataclass(frozen=True)
class Draw:
    """A batch from a pool: z_t [b, c, h, w], t [b], `row` [b] (which prompt was denoised) and that prompt's context
    [b, n, d], one target [b, c, h, w] a teacher."""

    z_t: Tensor
    t: Tensor
    row: Tensor
    context: Context
    targets: tuple[Tensor, ...]


@dataclass(frozen=True)
class PoolShape:
    """How many z_t are kept, how many come from one denoising, and how those denoisings are sampled."""

    size: int
    per_trajectory: int
    sampler_steps: int
    guidance: float


@torch.no_grad()
def draw_pictures(
    denoiser: Denoiser,
    z_0: Tensor,
    contexts: Context,
    negative: Context,
    steps: int,
    guidance: float,
    generator: torch.Generator,
    on_fill: OnFill | None = None,
) -> None:
    """Fill z_0 [n, c, h, w] with pictures of the frozen network, row i of context i modulo their number.

    `on_fill` hears how many have come since it was last called.
    """
    for part in torch.arange(len(z_0), device=z_0.device).split(PICTURES_AT_ONCE):
        noise = torch.randn((len(part), *denoiser.latent_shape), generator=generator).to(z_0)
        z_0[part] = sample(denoiser, noise, contexts[part % len(contexts)], negative, steps, guidance)
        if on_fill:
            on_fill(len(part))


class LatentPool:
    """Partial denoisings of some prompts.

    `contexts` [m] holds the prompts that are denoised, `teachers` contexts [m] at which the frozen network's
    predictions are stored with each z_t, `negative` [1] the other half of the guidance.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        contexts: Context,
        teachers: Sequence[Context],
        negative: Context,
        shape: PoolShape,
        generator: torch.Generator,
    ):
        self._denoiser, self._contexts, self._teachers, self._negative = denoiser, contexts, tuple(teachers), negative
        self._shape, self._generator = shape, generator
        latent = (shape.size, *denoiser.latent_shape)
        self._z = torch.zeros(latent, device=denoiser.device)
        self._t = torch.zeros(shape.size, dtype=torch.long, device=denoiser.device)
        self._row = torch.zeros(shape.size, dtype=torch.long, device=denoiser.device)
        self._targets = tuple(torch.zeros(latent, device=denoiser.device) for _ in self._teachers)
        self._next = 0
        self._next_row = 0

    @property
    def size(self) -> int:
        """How many z_t it holds."""
        return self._shape.size

    def fill(self, edit: Edit | None, on_fill: OnFill | None = None) -> None:
        """Sample the whole pool anew; `on_fill` hears how many z_t have come since it was last called, and may raise."""
        self.refresh(self._shape.size, edit, on_fill)

    @torch.no_grad()
    def refresh(self, count: int, edit: Edit | None, on_fill: OnFill | None = None) -> None:
        """Replace the `count` oldest entries by z_t sampled under `edit`."""
        while count > 0:
            trajectories = min(FILL_BATCH, -(-count // self._shape.per_trajectory))
            kept = self._harvest(trajectories, edit)
            order = torch.randperm(len(kept[0]), generator=self._generator)[:count].to(self._z.device)
            chosen = tuple(x[order] for x in kept)
            self._store(*chosen)
            count -= len(chosen[0])
            if on_fill:
                on_fill(len(chosen[0]))

    def _harvest(self, b: int, edit: Edit | None) -> tuple[Tensor, Tensor, Tensor]:
        """z_t, t and prompt of `per_trajectory` random steps of each of b denoisings."""
        steps, take = self._shape.sampler_steps, self._shape.per_trajectory
        rows = torch.arange(self._next_row, self._next_row + b) % len(self._contexts)
        self._next_row = int(rows[-1]) + 1
        noise = torch.randn((b, *self._denoiser.latent_shape), generator=self._generator).to(self._z)
        stops = torch.stack([torch.randperm(steps, generator=self._generator)[:take] for _ in range(b)])
        rows = rows.to(self._z.device)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        walk = trajectory(
            self._denoiser, noise, self._contexts[rows], self._negative, steps, self._shape.guidance, edit
        )
        for i, t, z in walk:
            here = (stops == i).any(1).to(z.device)
            found.append((z[here], t[here], rows[here]))
            if i == int(stops.max()):
                break
        z_t, t, row = (torch.cat(part) for part in zip(*found, strict=True))
        return z_t, t, row

    def _store(self, z_t: Tensor, t: Tensor, row: Tensor) -> None:
        where = (torch.arange(self._next, self._next + len(t)) % self._shape.size).to(t.device)
        self._next = (int(where[-1]) + 1) % self._shape.size
        self._z[where], self._t[where], self._row[where] = z_t, t, row
        for stored, teacher in zip(self._targets, self._teachers, strict=True):
            for part in torch.arange(len(t), device=t.device).split(2 * FILL_BATCH):
                stored[where[part]] = self._denoiser.predict(z_t[part], t[part], teacher[row[part]])

    def draw(self, b: int) -> Draw:
        """b entries at random."""
        i = torch.randint(self._shape.size, (b,), generator=self._generator).to(self._z.device)
        row = self._row[i]
        return Draw(self._z[i], self._t[i], row, self._contexts[row], tuple(target[i] for target in self._targets))

    def state(self) -> dict[str, Tensor]:
        """Everything in it, so that a resumed run draws what an uninterrupted one does."""
        named = {f"target.{i}": target for i, target in enumerate(self._targets)}
        return {
            "z": self._z,
            "t": self._t,
            "row": self._row,
            "next": torch.tensor([self._next, self._next_row]),
        } | named

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for own, name in ((self._z, "z"), (self._t, "t"), (self._row, "row")):
            own.copy_(state[name])
        self._next, self._next_row = (int(x) for x in state["next"])
        for i, target in enumerate(self._targets):
            target.copy_(state[f"target.{i}"])
