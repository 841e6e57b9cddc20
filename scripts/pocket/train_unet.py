"""Train the pocket model's UNet and CLIP text encoder together, on the autoencoder's latents.

    python scripts/pocket/train_unet.py --work out/pocket

Writes ``unet.ckpt`` (resumable, with the EMA weights that pack.py ships). pack.py may read it at any time.
"""

from __future__ import annotations

import logging
import math
from argparse import Namespace
from typing import Any

import common
import numpy as np
import torch
from captions import Captioner
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
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
SHIFTS_PER_VIEW = 4  # times three sizes and two directions: 24 views of every drawing
SHIFT = 2  # pixels
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

    def forward(self, latents: Tensor, steps: Tensor, tokens: Tensor) -> Tensor:
        """Noisy latents [b, 8, 8, 8], timesteps [b], tokens [b, 16] -> noise [b, 8, 8, 8]."""
        context = self.text(input_ids=tokens).last_hidden_state
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


@torch.no_grad()
def encode(args: Namespace, concepts: Concepts) -> tuple[Tensor, list[tuple[int, int]]]:
    """Latents [pairs, 24, 8, 8, 8] of every pair that is not held out, and the (object, style) of each."""
    data = common.read_drawings(args.work)
    autoencoder = AutoencoderTiny(latent_channels=8)
    autoencoder.load_state_dict(load_file(args.work / "autoencoder.safetensors"))
    autoencoder.eval().to(args.device)
    rng, latents, pairs = np.random.default_rng(args.seed), [], []
    where = {code: i for i, code in enumerate(data.codes)}
    for o, concept in enumerate(concepts.drawn):
        for s, style in enumerate(concepts.styles):
            if (concept.name, style) in concepts.held_out_pairs:
                continue
            pages = torch.from_numpy(views(data.images[where[concept.code], s], rng))
            pixels = pages.permute(0, 3, 1, 2).to(args.device).float() / 127.5 - 1
            latents.append(autoencoder.encoder(pixels).cpu())
            pairs.append((o, s))
    stacked = torch.stack(latents)
    log.info("latents %s, mean %.3f, std %.3f", tuple(stacked.shape), float(stacked.mean()), float(stacked.std()))
    return stacked, pairs


class Batches:
    """Endless batches: pairs in shuffled order, so that every pair is seen as often as any other."""

    def __init__(self, latents: Tensor, pairs: list[tuple[int, int]], concepts: Concepts, seed: tuple[int, int]) -> None:
        vocabulary = build_vocabulary(concepts)
        self.latents, self.pairs, self.concepts = latents, pairs, concepts
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(2**62)))
        self.caption = Captioner(concepts, common.read_concepts()["caption_shares"], self.rng)
        self.tokenizer = WordTokenizer(vocabulary)
        self.queue: list[int] = []

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents [count, 8, 8, 8] and tokens [count, 16]."""
        while len(self.queue) < count:
            self.queue += self.rng.permutation(len(self.pairs)).tolist()
        rows, self.queue = self.queue[:count], self.queue[count:]
        captions = [self.caption(self.concepts.drawn[self.pairs[r][0]], self.concepts.styles[self.pairs[r][1]]) for r in rows]
        view = self.rng.integers(self.latents.shape[1], size=count)
        return self.latents[rows, view], self.tokenizer.encode(captions)

    def noise(self, count: int) -> tuple[Tensor, Tensor]:
        """Noise [count, 8, 8, 8] and timesteps [count], one in every stratum of the schedule: a quieter gradient."""
        noise = torch.randn(count, *self.latents.shape[2:], generator=self.generator)
        places = (torch.arange(count) + torch.rand(count, generator=self.generator)) / count
        return noise, (places * SCHEDULE.num_train_timesteps).long()


@torch.no_grad()
def update_average(average: list[Tensor], parameters: list[Tensor], step: int) -> None:
    decay = min(EMA, (1 + step) / (10 + step))  # the first random weights are soon forgotten
    torch._foreach_lerp_(average, parameters, 1 - decay)


def loss_of(network: Network, batch: tuple[Tensor, Tensor], noise: tuple[Tensor, Tensor], alphas: Tensor) -> Tensor:
    """Epsilon prediction with min-SNR weights."""
    device = alphas.device
    (latents, tokens), (eps, steps) = batch, noise
    latents, tokens, eps, steps = latents.to(device), tokens.to(device), eps.to(device), steps.to(device)
    alpha = alphas[steps][:, None, None, None]
    made = network(alpha.sqrt() * latents + (1 - alpha).sqrt() * eps, steps, tokens)
    snr = alphas[steps] / (1 - alphas[steps])
    return ((made - eps).pow(2).mean(dim=(1, 2, 3)) * snr.clamp(max=MIN_SNR) / snr).mean()


def main() -> None:
    parser = common.arguments(__doc__, images=240_000, batch=64)
    args = parser.parse_args()
    common.start(args)
    concepts = load_concepts()
    latents, pairs = encode(args, concepts)
    config = configuration(build_vocabulary(concepts))
    network = Network(config).to(args.device)
    names = [name for name, _ in network.named_parameters()]
    parameters = [parameter for _, parameter in network.named_parameters()]
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    alphas = SCHEDULE.alphas_cumprod().float().to(args.device)

    trial = Batches(latents, pairs, concepts, (args.seed, 2**31))
    precision = common.choose_precision(
        args, lambda: loss_of(network, trial.draw(args.batch), trial.noise(args.batch), alphas).backward()
    )
    checkpoint = args.work / "unet.ckpt"
    seen, hours = 0, 0.0
    if state := common.load_checkpoint(checkpoint, args.device):
        network.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average = [state["ema"][name] for name in names]
        seen, hours = state["seen"], state["hours"]
        log.info("resuming at %d images", seen)
    batches = Batches(latents, pairs, concepts, (args.seed, seen))
    progress, threads = common.Progress(args.images, seen, args.save_every), common.Threads(args.device)
    recent: list[float] = []

    def save() -> None:
        facts = {"seen": progress.seen, "planned": args.images, "hours": hours + progress.hours, "seed": args.seed}
        state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "config": config}
        ema = dict(zip(names, average, strict=True))
        common.save_checkpoint(checkpoint, {**state, **facts, "ema": ema, "precision": precision})

    def text() -> str:
        mean = sum(recent) / len(recent)
        recent.clear()
        return f"loss {mean:.4f}, {threads.now} threads"

    while progress.seen < args.images:
        done = progress.seen / args.images
        for group in optimizer.param_groups:
            warm = min(1.0, progress.seen / (200 * args.batch))
            group["lr"] = LEARNING_RATE * warm * (0.5 * (1 + math.cos(math.pi * done)) + 1e-3)
        optimizer.zero_grad()
        with common.autocast(args.device, precision):
            loss = loss_of(network, batches.draw(args.batch), batches.noise(args.batch), alphas)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        update_average(average, parameters, progress.seen // args.batch)
        recent.append(loss.item())
        threads.step()
        if progress.update(args.batch, text):
            save()
    save()
    log.info("done, %.2f hours", hours + progress.hours)


if __name__ == "__main__":
    main()
