"""Train judge-CLIP's two ways into one space, on top of the shipped judge and the shipped text encoder.

    python scripts/pocket/train_judge_clip.py --work out/pocket

Twice: on every drawing of the pocket model's objects, which gives the weights; then with a sixth of the (object, style)
pairs held out, which gives the figures. The judge's features and the text encoder's states stay as they are (the judge
has seen those drawings), so a run takes minutes. A caption may leave the style or the object open: all drawings that
it fits are its positives. Writes `judge_clip.safetensors` (fp16) and `judge_clip.json` (figures) beside the judge.
"""

from __future__ import annotations

import argparse
import logging
import math
from typing import Any, NamedTuple

import common
import torch
from safetensors.torch import save_file
from torch import Tensor
from train_judge import augment, softened

from eraser_core.pocket.concepts import Concepts, fill, load_concepts
from eraser_core.pocket.judge import load_judge
from eraser_core.pocket.judge_clip import WEIGHTS, Encode, Towers
from eraser_core.pocket.model import load_pocket

log = logging.getLogger("pocket.judge_clip")

LEARNING_RATE = 2e-3
TEMPERATURE = 0.07
COPIES = 16  # of every drawing, each augmented in its own way: features are computed once
SHARES = {"object": 0.25, "style": 0.15, "both": 0.6}  # what a caption names
OPEN = -1  # an object or style that the caption leaves open


class Seen(NamedTuple):
    """The judge's features [n, 192] of drawings, and what each shows."""

    features: Tensor
    objects: Tensor
    styles: Tensor

    def where(self, mask: Tensor) -> Seen:
        return Seen(*(part[mask] for part in self))


class Said(NamedTuple):
    """The text encoder's states [n, 16, 192] of captions, and what each names (OPEN: nothing)."""

    states: Tensor
    objects: Tensor
    styles: Tensor

    def where(self, mask: Tensor) -> Said:
        return Said(*(part[mask] for part in self))


def look(images: Tensor, args: argparse.Namespace, copies: int) -> Seen:
    """Features of drawings uint8 [objects, styles, 3, 64, 64], `copies` of each; 0: of each as it is."""
    judge = load_judge(device=args.device)
    objects, styles = torch.meshgrid(torch.arange(images.shape[0]), torch.arange(images.shape[1]), indexing="ij")
    flat, parts = images.flatten(0, 1), list[Tensor]()
    with torch.no_grad():
        for _ in range(max(copies, 1)):
            for part in flat.split(128):
                shown = augment(part.to(args.device)) if copies else part.to(args.device).float() / 255
                parts.append(judge.features(shown).cpu())
    times = max(copies, 1)
    return Seen(torch.cat(parts), objects.flatten().repeat(times), styles.flatten().repeat(times))


def captions(concepts: Concepts, encode: Encode) -> dict[str, Said]:
    """Every training caption by what it names; the object's name, its synonyms and its descriptions in its place."""
    found: dict[str, list[tuple[str, int, int]]] = {"object": [], "style": [], "both": []}
    for o, concept in enumerate(concepts.drawn):
        for phrase in (concept.phrase, *concept.synonyms, *concept.descriptions):
            found["object"] += [(text, o, OPEN) for text in concepts.prompts(phrase)]
            for s, style in enumerate(concepts.styles):
                found["both"] += [(text, o, s) for text in concepts.prompts(phrase, style)]
    for s, style in enumerate(concepts.styles):
        for word in (style, *concepts.style_synonyms[style]):
            found["style"] += [(fill(template, style=word), OPEN, s) for template in concepts.training.style]
    return {kind: encoded(rows, encode) for kind, rows in found.items()}


@torch.no_grad()
def encoded(rows: list[tuple[str, int, int]], encode: Encode) -> Said:
    """Their states, 256 at a time."""
    texts = [text for text, _, _ in rows]
    states = torch.cat([encode(texts[i : i + 256]) for i in range(0, len(texts), 256)])
    return Said(states, torch.tensor([o for _, o, _ in rows]), torch.tensor([s for _, _, s in rows]))


def fits(seen: Seen, said: Said) -> Tensor:
    """[pictures, captions] bool: nothing that the caption names is otherwise on the picture."""
    objects = (said.objects == OPEN) | (seen.objects[:, None] == said.objects)
    return objects & ((said.styles == OPEN) | (seen.styles[:, None] == said.styles))


def loss_of(towers: Towers, seen: Seen, said: Said) -> Tensor:
    """CLIP's loss, both ways, with every fitting pair as a positive."""
    scores = towers.images(seen.features) @ towers.texts(said.states).T / TEMPERATURE
    positive = fits(seen, said).float()
    found = []
    for s, p in ((scores, positive), (scores.T, positive.T)):
        rows = p.sum(1) > 0
        targets = p[rows] / p[rows].sum(1, keepdim=True)
        found.append(-(targets * s[rows].log_softmax(1)).sum(1).mean())
    return (found[0] + found[1]) / 2


def train(args: argparse.Namespace, seen: Seen, said: dict[str, Said]) -> Towers:
    """Towers trained on these drawings; captions are drawn by SHARES."""
    torch.manual_seed(args.seed)
    towers = Towers()
    steps = args.images // args.batch
    optimizer = torch.optim.AdamW(towers.parameters(), LEARNING_RATE, weight_decay=0.05)
    counts = [round(share * args.batch) for share in SHARES.values()]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (
                min(1.0, step / (0.05 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
            )
        some = [
            said[kind].where(torch.randint(len(said[kind].objects), (n,)))
            for kind, n in zip(SHARES, counts, strict=True)
        ]
        loss = loss_of(
            towers,
            seen.where(torch.randint(len(seen.objects), (args.batch,))),
            Said(*map(torch.cat, zip(*some, strict=True))),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 0 or step + 1 == steps:
            log.info("step %d of %d, loss %.4f", step, steps, loss.item())
    return towers.eval()


@torch.no_grad()
def figures(towers: Towers, seen: Seen, concepts: Concepts, encode: Encode) -> dict[str, float]:
    """Of these drawings, the share whose own object (of all), and style (of all), has the best-fitting scoring prompt."""
    pictures = towers.images(seen.features)
    objects = encode([concepts.prompts(c.phrase, scoring=True)[0] for c in concepts.drawn])
    styles = encode([concepts.style_prompts(s, scoring=True)[0] for s in concepts.styles])
    right = [
        (pictures @ towers.texts(states).T).argmax(1) == answers
        for states, answers in ((objects, seen.objects), (styles, seen.styles))
    ]
    return {
        "n": len(pictures),
        "object": round(float(right[0].float().mean()), 4),
        "style": round(float(right[1].float().mean()), 4),
    }


def main() -> None:
    """Both trainings, the files."""
    args = common.arguments(__doc__, images=768_000, batch=256).parse_args()
    common.start(args)
    concepts, pocket, data = load_concepts(), load_pocket(), common.read_drawings(args.work)
    rows = [data.codes.index(c.code) for c in concepts.drawn]
    real = torch.from_numpy(data.images[rows, :, 0]).permute(0, 1, 4, 2, 3).contiguous()
    soft = softened(real.flatten(0, 1), pocket.autoencoder, args).view_as(real)
    said = captions(concepts, pocket.encode_text)
    every = Seen(*map(torch.cat, zip(*(look(x, args, COPIES) for x in (real, soft)), strict=True)))
    towers = train(args, every, said)
    tensors = {key: value.half().contiguous() for key, value in towers.state_dict().items()}
    metadata = {"format": "pt", "modelspec.title": "ConceptEraser judge-CLIP", "modelspec.license": "Apache-2.0"}
    beside = WEIGHTS.with_suffix(".tmp")
    save_file(tensors, beside, metadata)
    beside.replace(WEIGHTS)

    back = torch.rand(real.shape[:2], generator=torch.Generator().manual_seed(args.seed)) < 1 / 6
    measured = train(args, every.where(~back[every.objects, every.styles]), said)
    plain = {"drawings": look(real, args, 0), "through_autoencoder": look(soft, args, 0)}
    found: dict[str, Any] = {}
    for kind, seen in plain.items():
        held = back[seen.objects, seen.styles]
        found[f"held_out_{kind}"] = figures(measured, seen.where(held), concepts, pocket.encode_text)
        found[f"trained_on_{kind}"] = figures(towers, seen, concepts, pocket.encode_text)
    log.info("%s", found)
    facts = {"about": "judge-CLIP: trained layers over the judge and the pocket's text encoder", "images": args.images}
    common.write_json(WEIGHTS.with_suffix(".json"), facts | {"seed": args.seed, "figures": found})


if __name__ == "__main__":
    main()
