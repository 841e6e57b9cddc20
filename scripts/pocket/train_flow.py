"""Train the second pocket model: a flow-matching transformer on the first one's latents, captions and text encoder.

    python scripts/pocket/train_flow.py --work out/pocket

Needs `drawings.npz` (data.py) and the shipped checkpoint of the first model, whose autoencoder and text encoder stay as they are.
Writes ``flow.ckpt`` (resumable, with the EMA weights that pack_flow.py ships). `--start
FILE` goes on from a packed model's weights, where no checkpoint is left.

The network sees z_s = (1 - s) x_0 + s eps and predicts eps - x_0. Of all drawings that fit a caption, one at random is noised;
the target is not that drawing's but the mean over all of them, weighted by how likely each is to have led to z_s. That is what
the loss's minimum is in any case (Xu et al., arXiv 2302.00670); here the drawings are few enough to work it out exactly, and the
gradient loses most of its noise.
"""

from __future__ import annotations

import logging
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from captions import Caption, Captioner
from flow_network import FlowNetwork
from muon import Muon
from torch import Tensor
from train_unet import encode, shown_pairs, view_shares

from eraser_core.pocket.concepts import Concepts, load_concepts
from eraser_core.pocket.model import WEIGHTS, PocketModel, load_pocket

log = logging.getLogger("pocket.flow")

MATRIX_RATE = 0.02
OTHER_RATE = 2e-3
EMA = 0.99
WARM_STEPS = 40
PLACES = 1  # every drawing where it is, in three sizes and two directions: six views
PIECE = 16  # rows at a time: what they need then stays in a processor's cache
CENTRE, WIDTH = 0.4, 1.2  # of the normal distribution that log(s / (1 - s)) is drawn from
EVEN_SHARE = 0.15  # of the rows have s drawn evenly, so that both ends are seen
BLOCKS = ("layers.", "noise_refiner.", "context_refiner.")


class Batches:
    """Endless batches: pairs in shuffled order, each with a caption of its own, noise, s, and the exact target."""

    def __init__(
        self, latents: Tensor, pairs: list[tuple[int, int]], model: PocketModel, seed: tuple[int, int]
    ) -> None:
        concepts = load_concepts()
        self.pairs, self.concepts, self.model = pairs, concepts, model
        self.latents = latents.flatten(2)
        self.shape = latents.shape[2:]
        self.squares = self.latents.square().sum(-1)
        self.shares = view_shares(PLACES)
        self.prior = torch.from_numpy(self.shares).log().float()
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(2**62)))
        self.caption = Captioner(concepts, common.read_concepts()["caption_shares"], self.rng)
        self.contexts: dict[str, Tensor] = {}
        self.fitting: dict[tuple[str | None, str | None, str | None], Tensor] = {}
        self.queue: list[int] = []

    def draw(self, count: int) -> list[Tensor]:
        """z_s [b, 8, 8, 8], s [b], context [b, 16, 192], target [b, 8, 8, 8]."""
        while len(self.queue) < count:
            self.queue += self.rng.permutation(len(self.pairs)).tolist()
        rows, self.queue = self.queue[:count], self.queue[count:]
        captions = [
            self.caption.draw(self.concepts.drawn[o], self.concepts.styles[s]) for o, s in (self.pairs[r] for r in rows)
        ]
        view = self.rng.choice(self.latents.shape[1], size=count, p=self.shares)
        noise = torch.randn(count, self.latents.shape[2], generator=self.generator)
        s = self.times(count)
        z = (1 - s)[:, None] * self.latents[rows, view] + s[:, None] * noise
        target = torch.stack([self.target(*row) for row in zip(z, s, captions, strict=True)])
        context = torch.stack([self.context(caption.text) for caption in captions])
        return [z.unflatten(1, self.shape), s, context, target.unflatten(1, self.shape)]

    def times(self, count: int) -> Tensor:
        """[count]: s, one in every stratum of its distribution."""
        places = torch.randperm(count, generator=self.generator) + torch.rand(count, generator=self.generator)
        even = torch.rand(count, generator=self.generator) < EVEN_SHARE
        normal = torch.special.ndtri((places / count).clamp(1e-4, 1 - 1e-4)) * WIDTH + CENTRE
        return torch.where(even, places / count, normal.sigmoid()).clamp(0.005, 0.999)

    def target(self, z: Tensor, s: Tensor, caption: Caption) -> Tensor:
        """E[eps - x_0 | z_s, caption] over the drawings that the caption fits: z, result [512]."""
        fits = self.fits(caption)
        drawings = self.latents[fits].flatten(0, 1)
        # log of exp(-|z - (1 - s) x|^2 / 2 s^2) less what is the same for all x
        close = ((1 - s) * (drawings @ z) - (1 - s) ** 2 * self.squares[fits].flatten() / 2) / s**2
        weights = (close + self.prior.repeat(len(fits))).softmax(0)
        x_0 = weights @ drawings
        return (z - x_0) / s  # = (z - (1 - s) x_0) / s - x_0

    def fits(self, caption: Caption) -> Tensor:
        """Numbers of the pairs that a caption may have been for."""
        key = caption.name, caption.category, caption.style
        if key not in self.fitting:
            drawn, styles = self.concepts.drawn, self.concepts.styles
            self.fitting[key] = torch.tensor(
                [
                    i
                    for i, (o, s) in enumerate(self.pairs)
                    if caption.name in (None, drawn[o].name)
                    and caption.category in (None, drawn[o].category)
                    and caption.style in (None, styles[s])
                ]
            )
        return self.fitting[key]

    @torch.no_grad()
    def context(self, text: str) -> Tensor:
        """[16, 192]."""
        if text not in self.contexts:
            self.contexts[text] = self.model.encode_text([text])[0]
        return self.contexts[text]


class Trainer:
    """The network, its two optimisers and its average."""

    def __init__(self, network: FlowNetwork, start: dict[str, Tensor] | None) -> None:
        self.network = network
        if start:
            network.load_state_dict(start)
        self.named = dict(network.named_parameters())
        inner = {n for n, p in self.named.items() if n.startswith(BLOCKS) and p.dim() == 2 and "norm1.linear" not in n}
        others = [p for n, p in self.named.items() if n not in inner]
        self.muon = Muon([self.named[n] for n in sorted(inner)], MATRIX_RATE, weight_decay=0.02)
        self.adam = torch.optim.AdamW(others, OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.average = {n: p.detach().clone() for n, p in self.named.items()}

    def step(self, batch: list[Tensor], count: int, share: float) -> float:
        """One step on a batch; `count` steps were made before, `share` [0, 1] is the learning rates'."""
        total, loss = len(batch[0]), 0.0
        for z, s, context, target in zip(*(tensor.split(PIECE) for tensor in batch), strict=True):
            part = (self.network(z, s, context) - target).square().mean() * (len(z) / total)
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], 1.0)
        for optimizer, rate in ((self.muon, MATRIX_RATE), (self.adam, OTHER_RATE)):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
        decay = min(EMA, (1 + count) / (10 + count))  # the first random weights are soon forgotten
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), list(self.named.values()), 1 - decay)
        return loss

    def state(self) -> dict[str, Any]:
        return {
            "model": self.network.state_dict(),
            "ema": self.average,
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["model"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        for name, average in self.average.items():
            average.copy_(state["ema"][name])


def train(args: Namespace, latents: Tensor, pairs: list[tuple[int, int]], start: dict[str, Tensor] | None) -> None:
    """Until --images are seen, from the last checkpoint if there is one."""
    torch.manual_seed(args.seed)
    trainer = Trainer(FlowNetwork(), start)
    checkpoint, seen, hours = args.work / "flow.ckpt", 0, 0.0
    if state := common.load_checkpoint(checkpoint, args.device):
        trainer.load(state)
        seen, hours = state["seen"], state["hours"]
        log.info("resuming at %d images", seen)
    batches = Batches(latents, pairs, load_pocket(), (args.seed, seen))
    progress = common.Progress(args.images, seen, args.save_every)
    recent: list[float] = []

    def save() -> None:
        facts = {"seen": progress.seen, "planned": args.images, "hours": hours + progress.hours, "seed": args.seed}
        common.save_checkpoint(checkpoint, {**trainer.state(), **facts, "precision": "fp32"})

    def text() -> str:
        mean = sum(recent) / len(recent)
        recent.clear()
        return f"loss {mean:.4f}"

    while progress.seen < args.images:
        steps, done = progress.seen // args.batch, progress.seen / args.images
        share = min(1.0, (steps + 1) / WARM_STEPS) * (0.5 * (1 + math.cos(math.pi * done)) + 1e-3)
        recent.append(trainer.step(batches.draw(args.batch), steps, share))
        if progress.update(args.batch, text):
            save()
    save()
    log.info("done, %.2f hours", hours + progress.hours)


def main() -> None:
    parser = common.arguments(__doc__, images=240_000, batch=64)
    parser.add_argument("--start", type=Path, help="a packed model whose weights the training starts from")
    args = parser.parse_args()
    common.start(args)
    concepts: Concepts = load_concepts()
    pairs = shown_pairs(concepts)
    latents = encode(args, concepts, pairs, WEIGHTS, args.work / "flow_latents.safetensors", PLACES)
    start = load_pocket(args.start).network.state_dict() if args.start else None
    train(args, latents, pairs, start)


if __name__ == "__main__":
    main()
