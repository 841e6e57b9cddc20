"""Train the pocket model's autoencoder: 64 px pictures to 8x8x8 latents of unit variance, and back.

    python scripts/pocket/train_autoencoder.py --work out/pocket

Objects that the generator must never know are not shown to the autoencoder either; its PSNR is measured on them.
Writes ``autoencoder.safetensors`` (diffusers AutoencoderTiny, fp32) and ``autoencoder.json`` (figures).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

log = logging.getLogger("pocket.autoencoder")

LATENT_CHANNELS = 8
CROP_SHARE = 0.7  # of the images: 32 px crops see four times as many edges a second as whole pictures
CROP = 32
WHOLE_BATCH_DIVISOR = 4  # a whole picture costs four crops
GENERATOR_SHARE = 0.5  # of the samples are of objects that the generator draws
LATENT_NOISE = 0.05  # so that the decoder forgives a latent that a sampler got nearly right
LEARNING_RATE = 1e-3
COLOUR_WEIGHT = 3.0


class Trained(nn.Module):
    """Encoder, a batch norm without weights that fixes the latents' scale, decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = AutoencoderTiny(latent_channels=LATENT_CHANNELS)
        self.norm = nn.BatchNorm2d(LATENT_CHANNELS, affine=False, momentum=0.01)
        self.colours = nn.Conv2d(LATENT_CHANNELS, 3, 1)  # reads a patch's mean colour off its latent; not shipped

    def encode(self, images: Tensor) -> Tensor:
        """[b, 3, h, w] in [-1, 1] -> [b, 8, h/8, w/8]."""
        return self.norm(self.autoencoder.encoder(images).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[b, 3, h, w] in [-1, 1] -> pictures of that size, and mean colours [b, 3, h/8, w/8]."""
        latents = self.encode(images)
        colours = self.colours(latents).float()
        if self.training:
            latents = latents + LATENT_NOISE * torch.randn_like(latents)
        return self.autoencoder.decoder(latents).float(), colours

    @torch.no_grad()
    def fold(self) -> AutoencoderTiny:
        """Move the norm into the encoder's last convolution, exactly: the file needs no scaling factor."""
        conv = self.autoencoder.encoder.layers[-1]
        mean, var = self.norm.running_mean, self.norm.running_var
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None and mean is not None and var is not None
        std = (var + self.norm.eps).sqrt()
        conv.weight.div_(std[:, None, None, None])
        conv.bias.sub_(mean).div_(std)
        return self.autoencoder


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + MSE, half the L1 of both differences (edges are what tells the styles apart), and hues.

    Edges alone teach lines first, and the rarer hues, green and violet, came out brown and grey after 130,000 images. So the hue (what is
    left when grey is taken away) of 4x4 patches counts by itself.
    """
    loss = F.l1_loss(made, wanted) + F.mse_loss(made, wanted)
    for axis in (-1, -2):
        loss = loss + 0.5 * F.l1_loss(made.diff(dim=axis), wanted.diff(dim=axis))
    error = F.avg_pool2d(made - wanted, 4)
    return loss + COLOUR_WEIGHT * (error - error.mean(dim=1, keepdim=True)).abs().mean()


def loss_of(made: tuple[Tensor, Tensor], wanted: Tensor) -> Tensor:
    """The pictures' loss, and what the linear readout of the latents says of each patch's mean colour.

    Without the readout a hue that is missing stays missing: neither half of the network gains from what the other ignores.
    """
    pictures, colours = made
    return picture_loss(pictures, wanted) + COLOUR_WEIGHT * F.l1_loss(colours, F.avg_pool2d(wanted, 8))


class Sampler:
    """Random drawings, flipped, at a random size and place."""

    def __init__(self, data: common.Drawings, concepts: dict[str, Any], rng: np.random.Generator) -> None:
        split = {o["code"]: o["split"] for o in concepts["objects"]}
        kinds = [split.get(code, "other") for code in data.codes]
        self.images, self.rng = data.images, rng
        self.generator = np.array([i for i, kind in enumerate(kinds) if kind == "generator"])
        self.rest = np.array([i for i, kind in enumerate(kinds) if kind not in ("generator", "never-shown")])
        self.never = np.array([i for i, kind in enumerate(kinds) if kind == "never-shown"])

    def draw(self, batch: int, crop: int) -> Tensor:
        """[batch, 3, crop, crop] in [-1, 1]."""
        rng, out = self.rng, np.empty((batch, crop, crop, 3), np.uint8)
        for row in range(batch):
            pool = self.generator if rng.random() < GENERATOR_SHARE else self.rest
            pick = self.images[rng.choice(pool), rng.integers(self.images.shape[1]), rng.integers(self.images.shape[2])]
            if rng.random() < 0.5:
                pick = pick[:, ::-1]
            if crop == pick.shape[0]:
                out[row] = np.roll(pick, rng.integers(-3, 4, 2), (0, 1))
            else:
                y, x = rng.integers(0, pick.shape[0] - crop + 1, 2)
                out[row] = pick[y : y + crop, x : x + crop]
        return torch.from_numpy(out).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.no_grad()
def measure(model: Trained, images: np.ndarray, device: str) -> dict[str, float]:
    """PSNR over drawings uint8 [n, 64, 64, 3], and the latents' mean and std."""
    model.eval()
    whole = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    errors, latents = [], []
    for part in whole.split(64):
        latent = model.encode(part.to(device))
        made = model.autoencoder.decoder(latent).float().clamp(-1, 1).cpu()
        errors.append((made - part).div(2).pow(2).mean(dim=(1, 2, 3)))
        latents.append(latent.cpu())
    model.train()
    error, latent = torch.cat(errors), torch.cat(latents)
    return {
        "psnr": float((-10 * error.clamp_min(1e-8).log10()).mean()),
        "latent_mean_abs": float(latent.mean(dim=(0, 2, 3)).abs().max()),
        "latent_std_min": float(latent.std(dim=(0, 2, 3)).min()),
        "latent_std_max": float(latent.std(dim=(0, 2, 3)).max()),
    }


@torch.no_grad()
def contact_sheet(model: Trained, images: np.ndarray, device: str, path: Path) -> None:
    """Drawings above, what comes back below; images uint8 [n, styles, 64, 64, 3]."""
    model.eval()
    flat = torch.from_numpy(images.reshape(-1, 64, 64, 3)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    made = model(flat.to(device))[0].clamp(-1, 1).add(1).mul(127.5).byte().permute(0, 2, 3, 1).cpu().numpy()
    model.train()
    rows = []
    for real, back in zip(images, made.reshape(images.shape), strict=True):
        rows.append(np.concatenate([np.concatenate(list(real), 1), np.concatenate(list(back), 1)], 0))
    half = len(rows) // 2
    sheet = np.concatenate([np.concatenate(rows[:half], 0), np.concatenate(rows[half : 2 * half], 0)], 1)
    Image.fromarray(sheet).save(path)


def main() -> None:
    parser = common.arguments(__doc__, images=170_000, batch=32)
    args = parser.parse_args()
    common.start(args)
    rng = np.random.default_rng(args.seed)
    data = common.read_drawings(args.work)
    sampler = Sampler(data, common.read_concepts(), rng)
    model = Trained().to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.01, fused=True)

    def trial() -> None:
        images = sampler.draw(args.batch, CROP).to(args.device)
        loss_of(model(images), images).backward()
        optimizer.zero_grad()

    precision = common.choose_precision(args, common.under_autocast(args.device, trial))
    checkpoint = args.work / "autoencoder.ckpt"
    seen, hours = 0, 0.0
    if state := common.load_checkpoint(checkpoint, args.device):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        seen, hours = state["seen"], state["hours"]
        log.info("resuming at %d images", seen)
    # A whole picture counts as the four crops that it costs, so that --images is a measure of work.
    sampler.rng = np.random.default_rng([args.seed, seen])  # a resumed run must not see the first images again
    progress = common.Progress(args.images, seen, args.save_every)

    def save() -> None:
        facts = {"seen": progress.seen, "hours": hours + progress.hours}
        common.save_checkpoint(checkpoint, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), **facts})

    threads = common.Threads(args.device)
    while progress.seen < args.images:
        done = progress.seen / args.images
        whole = done > CROP_SHARE
        images = sampler.draw(args.batch // WHOLE_BATCH_DIVISOR if whole else args.batch, 64 if whole else CROP)
        images = images.to(args.device)
        warm = min(1.0, progress.seen / (100 * args.batch) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warm * min(1.0, (1 - done) / (1 - CROP_SHARE) + 0.001)
        with common.autocast(args.device, precision):
            made = model(images)
        loss = loss_of(made, images)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        threads.step()
        if progress.update(args.batch, f"loss {loss.item():.4f}, {threads.now} threads"):
            save()
    save()
    finish(args, data, sampler, model, hours + progress.hours, precision)


def finish(args: Any, data: common.Drawings, sampler: Sampler, model: Trained, hours: float, precision: str) -> None:
    """Fold, write, measure."""
    unseen = data.images[sampler.never, :, 0]
    shown = data.images[sampler.generator, :, 0]
    figures: dict[str, Any] = {
        "images": args.images,
        "seed": args.seed,
        "hours": round(hours, 3),
        "precision": precision,
    }
    figures["never_shown"] = {"n": unseen.shape[0] * unseen.shape[1]} | measure(
        model, unseen.reshape(-1, 64, 64, 3), args.device
    )
    figures["generator_objects"] = {"n": shown.shape[0] * shown.shape[1]} | measure(
        model, shown.reshape(-1, 64, 64, 3), args.device
    )
    for s, style in enumerate(data.styles):
        figures["never_shown"][f"psnr_{style}"] = measure(model, unseen[:, s], args.device)["psnr"]
    contact_sheet(model, unseen[:16], args.device, args.work / "autoencoder.png")
    folded = model.fold()
    save_file({k: v.contiguous().cpu() for k, v in folded.state_dict().items()}, args.work / "autoencoder.safetensors")
    common.write_json(args.work / "autoencoder.json", figures)
    log.info("%s", figures)


if __name__ == "__main__":
    main()
