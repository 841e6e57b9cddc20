"""Train the pocket model's UNet and CLIP text encoder together, on the autoencoder's latents.

    python scripts/pocket/train_unet.py --work out/pocket

Writes ``unet.ckpt`` (resumable, with the EMA weights that pack.py ships). pack.py may read it at any time.
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
from captions import Captioner
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import AttnProcessor
from parallel import Optimizer, Workers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eraser_core.pocket.concepts import Concepts, load_concepts
from eraser_core.pocket.model import Schedule, autoencoder_keys, build_modules, fill_module
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


def views(drawing: np.ndarray, rng: np.random.Generator, places: int) -> np.ndarray:
    """uint8 [sizes, 64, 64, 3] -> [6 places, 64, 64, 3]: both directions, moved a little. No resampling: lines stay sharp."""
    out = []
    for page in drawing:
        for flipped in (page, page[:, ::-1]):
            out.append(flipped)  # the first stays where it is
            for _ in range(places - 1):
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
def encode(
    args: Namespace, concepts: Concepts, pairs: list[tuple[int, int]], weights: Path, kept: Path, places: int
) -> Tensor:
    """Latents [pairs, 6 places, 8, 8, 8] by the autoencoder in the file `weights`: train_autoencoder.py's own, or a packed checkpoint.

    `kept` holds them: a resumed run need not encode again.
    """
    if kept.exists() and kept.stat().st_mtime > weights.stat().st_mtime:
        return load_file(kept)["latents"]
    data = common.read_drawings(args.work)
    autoencoder = AutoencoderTiny(latent_channels=8)
    tensors = load_file(weights)
    own = {name: name for name, _ in autoencoder.named_parameters()}
    fill_module(autoencoder, own if own.keys() <= tensors.keys() else autoencoder_keys(autoencoder), tensors)
    autoencoder.eval().to(args.device)
    rng, latents = np.random.default_rng(args.seed), []
    where = {code: i for i, code in enumerate(data.codes)}
    trial = torch.rand(6 * places, 3, 64, 64, device=args.device)
    precision = common.choose_precision(args, common.under_autocast(args.device, lambda: autoencoder.encoder(trial)))
    threads = common.Threads(args.device)
    for o, s in pairs:
        pages = torch.from_numpy(views(data.images[where[concepts.drawn[o].code], s], rng, places))
        pixels = pages.permute(0, 3, 1, 2).to(args.device).float() / 127.5 - 1
        with common.autocast(args.device, precision):
            latents.append(autoencoder.encoder(pixels).float().cpu().contiguous())
        threads.step()
    stacked = torch.stack(latents).contiguous()
    log.info("latents %s, mean %.3f, std %.3f", tuple(stacked.shape), float(stacked.mean()), float(stacked.std()))
    save_file({"latents": stacked}, kept)
    return stacked


def view_shares(places: int) -> np.ndarray:
    """[6 places]: how often each of the `views` is shown."""
    moved = (1 - STILL_SHARE) / max(places - 1, 1)
    place = [STILL_SHARE] + [moved] * (places - 1) if places > 1 else [1.0]
    return np.array([size / 2 * share for size in SIZE_SHARES for _ in range(2) for share in place])


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
        self.alphas = SCHEDULE.alphas_cumprod().float()
        self.queue: list[int] = []
        self.shares = view_shares(SHIFTS_PER_VIEW)

    def draw(self, count: int) -> list[Tensor]:
        """A batch for `loss_of`: latents [b, 8, 8, 8], tokens [b, 16], noise [b, 8, 8, 8], timesteps [b], their alpha_bar [b]."""
        while len(self.queue) < count:
            self.queue += self.rng.permutation(len(self.pairs)).tolist()
        rows, self.queue = self.queue[:count], self.queue[count:]
        captions = [
            self.caption(self.concepts.drawn[self.pairs[r][0]], self.concepts.styles[self.pairs[r][1]]) for r in rows
        ]
        view = self.rng.choice(self.latents.shape[1], size=count, p=self.shares)
        noise = torch.randn(count, *self.latents.shape[2:], generator=self.generator)
        # one timestep in every stratum of the schedule: a quieter gradient
        places = torch.randperm(count, generator=self.generator) + torch.rand(count, generator=self.generator)
        steps = (places / count * SCHEDULE.num_train_timesteps).long().clamp(max=SCHEDULE.num_train_timesteps - 1)
        return [self.latents[rows, view], self.tokenizer.encode(captions), noise, steps, self.alphas[steps]]


def loss_of(network: Network, latents: Tensor, tokens: Tensor, eps: Tensor, steps: Tensor, alpha: Tensor) -> Tensor:
    """Epsilon prediction with min-SNR weights; the schedule's alpha_bar at `steps` is `alpha` [b]."""
    a = alpha[:, None, None, None]
    made = network(a.sqrt() * latents + (1 - a).sqrt() * eps, steps, tokens)
    snr = alpha / (1 - alpha)
    return ((made - eps).pow(2).mean(dim=(1, 2, 3)) * snr.clamp(max=MIN_SNR) / snr).mean()


def choose(args: Namespace, config: dict[str, Any], batches: Batches) -> str:
    """Measure which precision trains faster here, on networks that are thrown away."""

    def step(network: Network) -> None:
        loss_of(network, *(tensor.to(args.device) for tensor in batches.draw(args.batch))).backward()
        network.zero_grad()

    full, half = Network(config).to(args.device), Network(config).to(args.device, torch.bfloat16)
    return common.choose_precision(args, {"fp32": lambda: step(full), "bf16": lambda: step(half)})


def train(
    args: Namespace,
    cores: int,
    config: dict[str, Any],
    latents: Tensor,
    pairs: list[tuple[int, int]],
    concepts: Concepts,
) -> None:
    """Until --images are seen, from the last checkpoint if there is one."""
    precision = choose(args, config, Batches(latents, pairs, concepts, (args.seed, 2**31)))
    torch.manual_seed(args.seed)
    workers = Workers(Network(config).to(args.device), cores)
    optimizer = Optimizer(workers, EMA)
    for each in workers.networks:
        each.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    checkpoint, seen, hours = args.work / "unet.ckpt", 0, 0.0
    if state := common.load_checkpoint(checkpoint, args.device):
        optimizer.load(state)
        seen, hours = state["seen"], state["hours"]
        log.info("resuming at %d images", seen)
    batches = Batches(latents, pairs, concepts, (args.seed, seen))
    progress = common.Progress(args.images, seen, args.save_every)
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
        batch = [tensor.to(args.device) for tensor in batches.draw(args.batch)]
        loss = workers.gradients(batch, PIECE, loss_of)
        rate = LEARNING_RATE * warm * (0.5 * (1 + math.cos(math.pi * done)) + 1e-3)
        optimizer.step(progress.seen // args.batch, rate)
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
    weights, kept = args.work / "autoencoder.safetensors", args.work / "latents.safetensors"
    latents = encode(args, concepts, pairs, weights, kept, SHIFTS_PER_VIEW)
    train(args, cores, configuration(build_vocabulary(concepts)), latents, pairs, concepts)


if __name__ == "__main__":
    main()
