"""Train the pocket model's UNet and CLIP text encoder together, on the autoencoder's latents.

    python scripts/pocket/train_unet.py --work out/pocket

Writes ``unet.ckpt`` (resumable, with the EMA weights that pack.py ships). pack.py may read it at any time.
"""

from __future__ import annotations

import copy
import logging
import math
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import common
import numpy as np
import torch
from captions import Captioner
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eraser_core.pocket.concepts import Concepts, load_concepts
from eraser_core.pocket.model import Schedule, build_modules
from eraser_core.pocket.tokenizer import CONTEXT_LENGTH, WordTokenizer, build_vocabulary

log = logging.getLogger("pocket.unet")

WIDTHS = (128, 256)
CONTEXT_WIDTH = 192
HEAD_WIDTH = 32
LEARNING_RATE = 6e-4
EMA = 0.999
MIN_SNR = 5.0
PIECE = 16  # pictures that a worker takes at a time
SHIFTS_PER_VIEW = 4  # times three sizes and two directions: 24 views of every drawing
SHIFT = 2  # pixels
# How often a view is shown: mostly the drawing where it is and large, so that the network has one sharp picture to settle on.
SIZE_SHARES = (0.5, 0.3, 0.2)
STILL_SHARE = 0.6
SCHEDULE = Schedule("scaled_linear", 0.00085, 0.012, 1000, "epsilon")


def configuration(vocabulary: list[str]) -> dict[str, Any]:
    """All that the modules are built from; goes into pocket.json as it is."""
    end = len(vocabulary) - 1
    return {
        "unet": {
            "sample_size": 8,
            "in_channels": 8,
            "out_channels": 8,
            "down_block_types": ["CrossAttnDownBlock2D"] * len(WIDTHS),
            "up_block_types": ["CrossAttnUpBlock2D"] * len(WIDTHS),
            "block_out_channels": list(WIDTHS),
            "layers_per_block": 1,
            "cross_attention_dim": CONTEXT_WIDTH,
            "attention_head_dim": [width // HEAD_WIDTH for width in WIDTHS],  # diffusers counts heads here
            "norm_num_groups": 32,
        },
        "text_encoder": {
            "vocab_size": len(vocabulary),
            "hidden_size": CONTEXT_WIDTH,
            "intermediate_size": 4 * CONTEXT_WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": CONTEXT_WIDTH // HEAD_WIDTH,
            "max_position_embeddings": CONTEXT_LENGTH,
            "hidden_act": "quick_gelu",
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": end,
        },
        "autoencoder": {"latent_channels": 8},
    }


class Network(nn.Module):
    """What is trained."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.unet, self.text, _ = build_modules(config)
        # On a CPU plain attention trains at 1.5 times the speed of the fused kernel, whose backward pass is slow for 64 tokens.
        self.unet.set_attn_processor(AttnProcessor())
        self.unet.to(memory_format=torch.channels_last)

    def forward(self, latents: Tensor, steps: Tensor, tokens: Tensor) -> Tensor:
        """Noisy latents [b, 8, 8, 8], timesteps [b], tokens [b, 16] -> noise [b, 8, 8, 8]."""
        context = self.text(input_ids=tokens).last_hidden_state
        latents = latents.to(context.dtype, memory_format=torch.channels_last)
        return self.unet(latents, steps, encoder_hidden_states=context).sample.float()


def views(drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [sizes, 64, 64, 3] -> [24, 64, 64, 3]: both directions, moved a little. No resampling: lines stay sharp."""
    out = []
    for page in drawing:
        for flipped in (page, page[:, ::-1]):
            out.append(flipped)  # one in four stays where it is
            for _ in range(SHIFTS_PER_VIEW - 1):
                out.append(np.roll(flipped, rng.integers(-SHIFT, SHIFT + 1, 2), (0, 1)))
    return np.stack(out)


def shown_pairs(concepts: Concepts) -> list[tuple[int, int]]:
    """(object, style) numbers of every pair that is not held out."""
    return [
        (o, s)
        for o, concept in enumerate(concepts.drawn)
        for s, style in enumerate(concepts.styles)
        if (concept.name, style) not in concepts.held_out_pairs
    ]


@torch.no_grad()
def encode(args: Namespace, concepts: Concepts, pairs: list[tuple[int, int]]) -> Tensor:
    """Latents [pairs, 24, 8, 8, 8]. Kept in a file: a resumed run need not encode again."""
    kept = args.work / "latents.safetensors"
    if kept.exists() and kept.stat().st_mtime > (args.work / "autoencoder.safetensors").stat().st_mtime:
        return load_file(kept)["latents"]
    data = common.read_drawings(args.work)
    autoencoder = AutoencoderTiny(latent_channels=8)
    autoencoder.load_state_dict(load_file(args.work / "autoencoder.safetensors"))
    autoencoder.eval().to(args.device)
    rng, latents = np.random.default_rng(args.seed), []
    where = {code: i for i, code in enumerate(data.codes)}
    trial = torch.rand(24, 3, 64, 64, device=args.device)
    precision = common.choose_precision(args, common.under_autocast(args.device, lambda: autoencoder.encoder(trial)))
    threads = common.Threads(args.device)
    for o, s in pairs:
        pages = torch.from_numpy(views(data.images[where[concepts.drawn[o].code], s], rng))
        pixels = pages.permute(0, 3, 1, 2).to(args.device).float() / 127.5 - 1
        with common.autocast(args.device, precision):
            latents.append(autoencoder.encoder(pixels).float().cpu().contiguous())
        threads.step()
    stacked = torch.stack(latents).contiguous()
    log.info("latents %s, mean %.3f, std %.3f", tuple(stacked.shape), float(stacked.mean()), float(stacked.std()))
    save_file({"latents": stacked}, kept)
    return stacked


class Batches:
    """Endless batches: pairs in shuffled order, so that every pair is seen as often as any other."""

    def __init__(
        self, latents: Tensor, pairs: list[tuple[int, int]], concepts: Concepts, seed: tuple[int, int]
    ) -> None:
        vocabulary = build_vocabulary(concepts)
        self.latents, self.pairs, self.concepts = latents, pairs, concepts
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(2**62)))
        self.caption = Captioner(concepts, common.read_concepts()["caption_shares"], self.rng)
        self.tokenizer = WordTokenizer(vocabulary)
        self.queue: list[int] = []
        moved = (1 - STILL_SHARE) / (SHIFTS_PER_VIEW - 1)
        place = [STILL_SHARE] + [moved] * (SHIFTS_PER_VIEW - 1)
        self.shares = np.array([size / 2 * share for size in SIZE_SHARES for _ in range(2) for share in place])

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents [count, 8, 8, 8] and tokens [count, 16]."""
        while len(self.queue) < count:
            self.queue += self.rng.permutation(len(self.pairs)).tolist()
        rows, self.queue = self.queue[:count], self.queue[count:]
        captions = [
            self.caption(self.concepts.drawn[self.pairs[r][0]], self.concepts.styles[self.pairs[r][1]]) for r in rows
        ]
        view = self.rng.choice(self.latents.shape[1], size=count, p=self.shares)
        return self.latents[rows, view], self.tokenizer.encode(captions)

    def noise(self, count: int) -> tuple[Tensor, Tensor]:
        """Noise [count, 8, 8, 8] and timesteps [count], one in every stratum of the schedule: a quieter gradient."""
        noise = torch.randn(count, *self.latents.shape[2:], generator=self.generator)
        places = (torch.arange(count) + torch.rand(count, generator=self.generator)) / count
        return noise, (places * SCHEDULE.num_train_timesteps).long()


class Workers:
    """Gradients of one batch, worked out by several threads with a copy of the network each, a piece at a time.

    Inside each, operations run on one core. On a machine that other programs use too this beats threads inside an operation, which wait
    for the slowest at the end of every one: whoever is held up simply takes fewer pieces.
    """

    def __init__(self, network: Network, count: int) -> None:
        self.networks = [network, *(copy.deepcopy(network) for _ in range(count - 1))]
        self.pool = ThreadPoolExecutor(count)
        if count > 1:
            torch.set_num_threads(1)

    def gradients(self, batch: tuple[Tensor, Tensor], noise: tuple[Tensor, Tensor], alphas: Tensor) -> float:
        """Adds to the networks' gradients; returns the loss."""
        total = len(batch[0])
        size = total if len(self.networks) == 1 else PIECE
        pieces: SimpleQueue[slice] = SimpleQueue()
        for first in range(0, total, size):
            pieces.put(slice(first, first + size))

        def work(network: Network) -> float:
            if len(self.networks) > 1:
                torch.set_num_threads(1)
            sum_of_losses = 0.0
            while True:
                try:
                    rows = pieces.get_nowait()
                except Empty:
                    return sum_of_losses
                part, eps = (batch[0][rows], batch[1][rows]), (noise[0][rows], noise[1][rows])
                loss = loss_of(network, part, eps, alphas) * (len(part[0]) / total)
                loss.backward()
                sum_of_losses += loss.item()

        return sum(self.pool.map(work, self.networks))


class Optimizer:
    """AdamW and an average on fp32 master weights; the networks themselves may work in bf16."""

    def __init__(self, network: Network) -> None:
        self.names = [name for name, _ in network.named_parameters()]
        self.masters = [parameter.detach().float().clone() for parameter in network.parameters()]
        self.average = [master.clone() for master in self.masters]
        self.adam = torch.optim.AdamW(self.masters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    @torch.no_grad()
    def step(self, networks: Sequence[Network], count: int, rate: float) -> None:
        """Use the sum of the networks' gradients and clear them; `count` steps were made before."""
        for master, *copies in zip(self.masters, *(network.parameters() for network in networks), strict=True):
            grads = [parameter.grad.float() for parameter in copies if parameter.grad is not None]
            master.grad = grads[0]
            for grad in grads[1:]:
                master.grad += grad
            for parameter in copies:
                parameter.grad = None
        nn.utils.clip_grad_norm_(self.masters, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        decay = min(EMA, (1 + count) / (10 + count))  # the first random weights are soon forgotten
        torch._foreach_lerp_(self.average, self.masters, 1 - decay)
        self.hand_out(networks)

    @torch.no_grad()
    def hand_out(self, networks: Sequence[Network]) -> None:
        """Master weights into the networks."""
        for network in networks:
            torch._foreach_copy_(list(network.parameters()), self.masters)

    def state(self) -> dict[str, Any]:
        masters, average = (dict(zip(self.names, part, strict=True)) for part in (self.masters, self.average))
        return {"model": masters, "ema": average, "optimizer": self.adam.state_dict()}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        torch._foreach_copy_(self.masters, [state["model"][name] for name in self.names])
        torch._foreach_copy_(self.average, [state["ema"][name] for name in self.names])
        self.adam.load_state_dict(state["optimizer"])


def loss_of(network: Network, batch: tuple[Tensor, Tensor], noise: tuple[Tensor, Tensor], alphas: Tensor) -> Tensor:
    """Epsilon prediction with min-SNR weights."""
    device = alphas.device
    (latents, tokens), (eps, steps) = batch, noise
    latents, tokens, eps, steps = latents.to(device), tokens.to(device), eps.to(device), steps.to(device)
    alpha = alphas[steps][:, None, None, None]
    made = network(alpha.sqrt() * latents + (1 - alpha).sqrt() * eps, steps, tokens)
    snr = alphas[steps] / (1 - alphas[steps])
    return ((made - eps).pow(2).mean(dim=(1, 2, 3)) * snr.clamp(max=MIN_SNR) / snr).mean()


def choose(args: Namespace, config: dict[str, Any], batches: Batches, alphas: Tensor) -> str:
    """Measure which precision trains faster here, on networks that are thrown away."""

    def step(network: Network) -> None:
        loss_of(network, batches.draw(args.batch), batches.noise(args.batch), alphas).backward()
        network.zero_grad()

    full, half = Network(config).to(args.device), Network(config).to(args.device, torch.bfloat16)
    return common.choose_precision(args, {"fp32": lambda: step(full), "bf16": lambda: step(half)})


def train(args: Namespace, cores: int, config: dict[str, Any], latents: Tensor, pairs: list[tuple[int, int]], concepts: Concepts) -> None:
    """Until --images are seen, from the last checkpoint if there is one."""
    alphas = SCHEDULE.alphas_cumprod().float().to(args.device)
    precision = choose(args, config, Batches(latents, pairs, concepts, (args.seed, 2**31)), alphas)
    torch.manual_seed(args.seed)
    network = Network(config).to(args.device)
    optimizer = Optimizer(network)
    network.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    checkpoint, seen, hours = args.work / "unet.ckpt", 0, 0.0
    if state := common.load_checkpoint(checkpoint, args.device):
        optimizer.load(state)
        optimizer.hand_out([network])
        seen, hours = state["seen"], state["hours"]
        log.info("resuming at %d images", seen)
    batches = Batches(latents, pairs, concepts, (args.seed, seen))
    progress = common.Progress(args.images, seen, args.save_every)
    workers = Workers(network, cores)
    recent: list[float] = []

    def save() -> None:
        facts = {"seen": progress.seen, "planned": args.images, "hours": hours + progress.hours, "seed": args.seed}
        common.save_checkpoint(checkpoint, {**optimizer.state(), **facts, "config": config, "precision": precision})

    def text() -> str:
        mean = sum(recent) / len(recent)
        recent.clear()
        return f"loss {mean:.4f}"

    while progress.seen < args.images:
        done = progress.seen / args.images
        warm = min(1.0, progress.seen / (200 * args.batch))
        loss = workers.gradients(batches.draw(args.batch), batches.noise(args.batch), alphas)
        rate = LEARNING_RATE * warm * (0.5 * (1 + math.cos(math.pi * done)) + 1e-3)
        optimizer.step(workers.networks, progress.seen // args.batch, rate)
        recent.append(loss)
        if progress.update(args.batch, text):
            save()
    save()
    log.info("done, %.2f hours", hours + progress.hours)


def main() -> None:
    parser = common.arguments(__doc__, images=240_000, batch=64)
    args = parser.parse_args()
    common.start(args)
    cores = torch.get_num_threads() if torch.device(args.device).type == "cpu" else 1
    concepts = load_concepts()
    pairs = shown_pairs(concepts)
    latents = encode(args, concepts, pairs)
    train(args, cores, configuration(build_vocabulary(concepts)), latents, pairs, concepts)


if __name__ == "__main__":
    main()
