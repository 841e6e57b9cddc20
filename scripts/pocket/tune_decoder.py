"""Train the decoder on alone, the encoder as it is: whole pictures only, more noise on the latents.

    python scripts/pocket/tune_decoder.py --work out/pocket

The latents stay what they are, so this may run before, after or beside the UNet's training. Rewrites ``autoencoder.safetensors`` and adds
to ``autoencoder.json``.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import common
import numpy as np
import torch
from diffusers import AutoencoderTiny
from parallel import Optimizer, Workers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from train_autoencoder import Sampler, picture_loss

log = logging.getLogger("pocket.decoder")

NOISE = 0.08
LEARNING_RATE = 6e-4
PIECE = 2


def loss_of(decoder: nn.Module, latents: Tensor, pictures: Tensor) -> Tensor:
    """Mean over rows; latents [b, 8, 8, 8], pictures uint8 [b, 3, 64, 64]."""
    dtype = next(decoder.parameters()).dtype
    return picture_loss(decoder(latents.to(dtype)).float(), pictures.float() / 127.5 - 1)


@torch.no_grad()
def encode(encoder: nn.Module, pictures: Tensor, workers: Workers[Any], device: str, precision: str) -> Tensor:
    """uint8 [n, 3, 64, 64] -> latents [n, 8, 8, 8]."""

    def one(part: Tensor) -> Tensor:
        with torch.no_grad(), common.autocast(device, precision):
            return encoder(part.to(device).float() / 127.5 - 1).float().cpu()

    return torch.cat(list(workers.pool.map(one, pictures.split(32))))


def psnr(decoder: nn.Module, latents: Tensor, pictures: Tensor, device: str) -> float:
    """Mean over pictures, decoded in fp32."""
    errors = []
    with torch.no_grad():
        for z, x in zip(latents.split(32), pictures.split(32), strict=True):
            made = decoder(z.to(device)).clamp(-1, 1).cpu()
            errors.append((made - (x.float() / 127.5 - 1)).div(2).pow(2).mean(dim=(1, 2, 3)))
    return float((-10 * torch.cat(errors).clamp_min(1e-8).log10()).mean())


def main() -> None:
    parser = common.arguments(__doc__, images=4_000, batch=8)
    args = parser.parse_args()
    common.start(args)
    cores = torch.get_num_threads() if torch.device(args.device).type == "cpu" else 1
    data = common.read_drawings(args.work)
    sampler = Sampler(data, common.read_concepts(), np.random.default_rng(args.seed))
    autoencoder = AutoencoderTiny(latent_channels=8)
    autoencoder.load_state_dict(load_file(args.work / "autoencoder.safetensors"))
    autoencoder.to(args.device)
    trial = (
        torch.randn(4, 8, 8, 8, device=args.device),
        torch.zeros(4, 3, 64, 64, dtype=torch.uint8, device=args.device),
    )
    steps = common.under_autocast(args.device, lambda: loss_of(autoencoder.decoder, *trial).backward())
    precision = common.choose_precision(args, steps)
    autoencoder.zero_grad()

    workers = Workers(autoencoder.decoder, cores)
    optimizer = Optimizer(workers, average=0.99)
    rest = np.concatenate([sampler.generator, sampler.rest[::4]])  # the others only keep it from forgetting
    pictures = torch.from_numpy(data.images[rest, :, 0]).flatten(0, 1).permute(0, 3, 1, 2).contiguous()
    latents = encode(autoencoder.encoder, pictures, workers, args.device, precision)
    known = len(sampler.generator) * len(data.styles)  # they come first
    never = torch.from_numpy(data.images[sampler.never, :, 0]).flatten(0, 1).permute(0, 3, 1, 2).contiguous()
    unseen = encode(autoencoder.encoder, never, workers, args.device, precision)
    log.info("before: %.2f dB on objects never shown", psnr(autoencoder.decoder, unseen, never, args.device))
    for network in workers.networks:
        network.to(torch.bfloat16 if precision == "bf16" else torch.float32)

    checkpoint, seen, hours = args.work / "decoder.ckpt", 0, 0.0
    if state := common.load_checkpoint(checkpoint, args.device):
        optimizer.load(state)
        seen, hours = state["seen"], state["hours"]
    rng = np.random.default_rng([args.seed, seen])
    progress = common.Progress(args.images, seen, args.save_every)

    def save() -> None:
        facts = {"seen": progress.seen, "hours": hours + progress.hours}
        common.save_checkpoint(checkpoint, {**optimizer.state(), **facts})

    while progress.seen < args.images:
        done = progress.seen / args.images
        ours = rng.random(args.batch) < 0.5
        rows = torch.from_numpy(
            np.where(ours, rng.integers(0, known, args.batch), rng.integers(0, len(pictures), args.batch))
        )
        noisy = latents[rows] + NOISE * torch.randn(args.batch, 8, 8, 8)
        batch = [tensor.to(args.device) for tensor in (noisy, pictures[rows])]
        loss = workers.gradients(batch, PIECE, loss_of)
        warm = min(1.0, (progress.seen + args.batch) / (50 * args.batch))
        optimizer.step(progress.seen // args.batch, LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * done)))
        if progress.update(args.batch, f"loss {loss:.4f}"):
            save()
    save()

    autoencoder.decoder.float()
    autoencoder.decoder.load_state_dict(optimizer.state()["ema"])
    figures = json.loads((args.work / "autoencoder.json").read_text(encoding="utf-8"))
    figures["decoder_tuned"] = {
        "images": args.images,
        "hours": round(hours + progress.hours, 3),
        "precision": precision,
    }
    for key, z, x in (("never_shown", unseen, never), ("generator_objects", latents[:known], pictures[:known])):
        figures[key].setdefault("psnr_before_tuning", figures[key]["psnr"])
        figures[key]["psnr"] = psnr(autoencoder.decoder, z, x, args.device)
    figures["never_shown"] = {
        k: v for k, v in figures["never_shown"].items() if k.removeprefix("psnr_") not in data.styles
    }
    tensors = {k: v.contiguous().cpu() for k, v in autoencoder.state_dict().items()}
    save_file(tensors, args.work / "autoencoder.tmp")
    (args.work / "autoencoder.tmp").replace(args.work / "autoencoder.safetensors")
    common.write_json(args.work / "autoencoder.json", figures)
    log.info("%s", figures)


if __name__ == "__main__":
    main()
