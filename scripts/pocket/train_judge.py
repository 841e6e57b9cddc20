"""Train the judge, which names the object and the style of a drawing.

    python scripts/pocket/train_judge.py --work out/pocket

Twice: on everything, which gives the weights; then with one style of every object, and a fifth of the "other" drawings' objects, held
out, which gives the figures. Half of the pictures have gone through the autoencoder, so that the judge reads decoded pictures
as well as drawings. Writes ``judge.safetensors`` (fp16) and ``judge.json`` (classes, figures).
"""

from __future__ import annotations

import logging
import math
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import common
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eraser_core.pocket.concepts import load_concepts
from eraser_core.pocket.judge import OTHER, WIDTHS, Judge

log = logging.getLogger("pocket.judge")

OTHER_SHARE = 0.15  # of the pictures: there are more "other" objects than classes, but it is one class
LEARNING_RATE = 3e-3


class Pictures(NamedTuple):
    """Drawings and what the autoencoder makes of them, uint8 [n, 3, 64, 64], with the class of each."""

    real: Tensor
    soft: Tensor
    objects: Tensor
    styles: Tensor
    item: Tensor  # which emoji it is: "other" holds many


def soften(real: Tensor, args: Namespace) -> Tensor:
    """Through the autoencoder that is being trained beside it."""
    autoencoder = AutoencoderTiny(latent_channels=8)
    autoencoder.load_state_dict(load_file(args.work / "autoencoder.safetensors"))
    return softened(real, autoencoder, args)


def softened(real: Tensor, autoencoder: AutoencoderTiny, args: Namespace) -> Tensor:
    """Through an autoencoder, with latents a little wrong, as a sampler leaves them. uint8 [n, 3, 64, 64] both ways."""
    autoencoder.eval().to(args.device)
    trial = real[:8].to(args.device) / 127.5 - 1
    steps = common.under_autocast(args.device, lambda: autoencoder.decoder(autoencoder.encoder(trial)))
    precision = common.choose_precision(args, steps)

    @torch.no_grad()
    def one(part: Tensor) -> Tensor:
        if workers > 1:
            torch.set_num_threads(1)
        with common.autocast(args.device, precision):
            latents = autoencoder.encoder(part.to(args.device) / 127.5 - 1)
            made = autoencoder.decoder(latents + 0.1 * torch.randn_like(latents)).float().clamp(-1, 1)
        return ((made + 1) * 127.5).round().byte().cpu()

    workers = torch.get_num_threads() if torch.device(args.device).type == "cpu" else 1
    with ThreadPoolExecutor(workers) as pool:  # whole pictures side by side: see train_unet.Workers
        made = torch.cat(list(pool.map(one, real.split(32))))
    log.info("softened %d pictures", len(made))
    return made


def gather(args: Namespace, classes: dict[str, int], twins: set[str]) -> Pictures:
    """All drawings that belong to a class or are plainly "other"."""
    data = common.read_drawings(args.work)
    labelled = enumerate(zip(data.codes, data.labels, strict=True))
    keep = [i for i, (code, label) in labelled if code in classes or label not in twins]
    images = torch.from_numpy(data.images[keep, :, 0]).flatten(0, 1).permute(0, 3, 1, 2).contiguous()
    objects = torch.tensor([classes.get(data.codes[i], len(classes)) for i in keep])
    grid = torch.arange(len(images))
    item, style = grid // len(data.styles), grid % len(data.styles)
    return Pictures(images, soften(images, args), objects[item], style, item)


def augment(images: Tensor) -> Tensor:
    """uint8 [b, 3, 64, 64] -> float in [0, 1]: flipped, turned, scaled, moved, recoloured a little, blurred or noisy."""
    b, device = len(images), images.device
    x = images.float() / 255
    angle, scale = torch.randn(b, device=device) * 0.06, torch.empty(b, device=device).uniform_(0.9, 1.2)
    flip = torch.randint(0, 2, (b,), device=device) * 2.0 - 1
    shift = torch.empty(b, 2, device=device).uniform_(-0.1, 0.1)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack(
        [torch.stack([cos * flip, -sin, shift[:, 0]], 1), torch.stack([sin * flip, cos, shift[:, 1]], 1)], 1
    )
    grid = F.affine_grid(theta, [b, 3, 64, 64], align_corners=False)
    x = 1 - F.grid_sample(1 - x, grid, align_corners=False)  # white outside
    gain = torch.empty(b, 3, 1, 1, device=device).uniform_(0.92, 1.08)
    x = x * gain + torch.empty(b, 1, 1, 1, device=device).uniform_(-0.06, 0.06)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, blurred, (torch.rand(b, 1, 1, 1, device=device) * 1.4 - 0.4).clamp_min(0))
    x = x + torch.randn_like(x) * torch.rand(b, 1, 1, 1, device=device) * 0.05
    return x.clamp(0, 1)


@torch.no_grad()
def accuracy(judge: Judge, images: Tensor, objects: Tensor, styles: Tensor) -> dict[str, float]:
    """Shares right over uint8 pictures, and their number."""
    scores = judge.classify(images.float() / 255)
    return {
        "n": len(images),
        "object": round(float((scores.object_logits.argmax(1).cpu() == objects).float().mean()), 4),
        "style": round(float((scores.style_logits.argmax(1).cpu() == styles).float().mean()), 4),
    }


def train(args: Namespace, name: str, pictures: Pictures, usable: Tensor, judge: Judge) -> tuple[float, str]:
    """Train on the pictures where `usable` [n] is true; returns the hours and the precision."""
    judge.to(args.device).train()
    optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=0.05, fused=True)
    other = len(judge.objects) - 1
    pools = [
        torch.nonzero(usable & (pictures.objects != other))[:, 0],
        torch.nonzero(usable & (pictures.objects == other))[:, 0],
    ]

    def loss_of(count: int) -> Tensor:
        rest = int(torch.binomial(torch.tensor(float(count)), torch.tensor(OTHER_SHARE)))
        pick = torch.cat(
            [pool[torch.randint(len(pool), (n,))] for pool, n in zip(pools, (count - rest, rest), strict=True)]
        )
        soft = torch.rand(count)[:, None, None, None] < 0.5
        images = torch.where(soft, pictures.soft[pick], pictures.real[pick])
        scores = judge(augment(images.to(args.device)))
        objects, styles = pictures.objects[pick].to(args.device), pictures.styles[pick].to(args.device)
        return F.cross_entropy(scores.object_logits.float(), objects, label_smoothing=0.05) + F.cross_entropy(
            scores.style_logits.float(), styles, label_smoothing=0.05
        )

    precision = common.choose_precision(
        args, common.under_autocast(args.device, lambda: loss_of(args.batch).backward())
    )
    checkpoint = args.work / f"judge_{name}.ckpt"
    seen, hours = 0, 0.0
    if state := common.load_checkpoint(checkpoint, args.device):
        judge.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        seen, hours = state["seen"], state["hours"]
    torch.manual_seed(args.seed + seen)
    progress, threads = common.Progress(args.images, seen, args.save_every), common.Threads(args.device)

    def save() -> None:
        facts = {"seen": progress.seen, "hours": hours + progress.hours}
        common.save_checkpoint(checkpoint, {"model": judge.state_dict(), "optimizer": optimizer.state_dict(), **facts})

    while progress.seen < args.images:
        done = progress.seen / args.images
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (min(1.0, done / 0.05) * 0.5 * (1 + math.cos(math.pi * done)) + 1e-3)
        optimizer.zero_grad()
        with common.autocast(args.device, precision):
            loss = loss_of(args.batch)
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 5.0)
        optimizer.step()
        threads.step()
        if progress.update(args.batch, f"{name} loss {loss.item():.4f}, {threads.now} threads"):
            save()
    save()
    judge.eval()
    return hours + progress.hours, precision


def held_out(pictures: Pictures, other: int, seed: int) -> tuple[Tensor, Tensor]:
    """Masks [n]: drawings of known objects in the one style kept back, drawings of "other" objects kept back."""
    rng = np.random.default_rng(seed)
    items = int(pictures.item.max()) + 1
    style = torch.from_numpy(rng.integers(0, int(pictures.styles.max()) + 1, items))
    known = (pictures.objects != other) & (pictures.styles == style[pictures.item])
    back = torch.from_numpy(rng.random(items) < 0.2)
    return known, (pictures.objects == other) & back[pictures.item]


def main() -> None:
    parser = common.arguments(__doc__, images=128_000, batch=64)
    args = parser.parse_args()
    common.start(args)
    concepts = load_concepts()
    names = (*(c.name for c in concepts.objects), OTHER)
    pictures = gather(args, {c.code: i for i, c in enumerate(concepts.objects)}, set(concepts.near_twins))
    log.info("%d pictures, %d classes", len(pictures.real), len(names))
    judge = Judge(names, concepts.styles)
    hours, precision = train(args, "all", pictures, torch.ones(len(pictures.item), dtype=torch.bool), judge)
    tensors = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in judge.state_dict().items()}
    save_file(tensors, args.work / "judge.safetensors")

    known, other = held_out(pictures, len(names) - 1, args.seed)
    measured = Judge(names, concepts.styles)
    facts: dict[str, Any] = {"objects": names, "styles": concepts.styles, "widths": WIDTHS}
    common.write_json(args.work / "judge.json", facts)  # enough to use it; the figures follow
    more, _ = train(args, "held_out", pictures, ~known & ~other, measured)
    classes = pictures.objects != len(names) - 1
    figures = {
        f"{kind}_{which}": accuracy(model, images[mask], pictures.objects[mask], pictures.styles[mask])
        for kind, model, mask in (
            ("style_held_out", measured, known),
            ("other_objects_held_out", measured, other),
            ("trained_on", judge, classes),
        )
        for which, images in (("drawings", pictures.real), ("through_autoencoder", pictures.soft))
    }
    log.info("%s", figures)
    facts["training"] = {
        "images": args.images,
        "seed": args.seed,
        "hours": round(hours + more, 3),
        "precision": precision,
        "figures": figures,
    }
    common.write_json(args.work / "judge.json", facts)


if __name__ == "__main__":
    main()
