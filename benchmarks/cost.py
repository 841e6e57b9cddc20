"""What erasing costs on Stable Diffusion 1.5's true architecture with random weights.

    python benchmarks/cost.py               # closed forms and one step of each gradient method, 64x64 latents
    python benchmarks/cost.py --latent 16   # smaller pictures
    python benchmarks/cost.py --only closed
    python benchmarks/cost.py --smoke

Closed forms: 1, 10 and 100 concepts with 0, 100 and 1000 preserved, ours (one Cholesky factorisation for all layers,
low-rank entries) beside a naive one (a dense inverse and a dense matrix in every layer), in the same run; text encoding
is apart. The floor is the operations that the formula cannot do without at this machine's float64 speed. Gradient methods: seconds, forward rows and peak memory an iteration, from a pool and denoised anew. A small
pool is filled; what the default one takes more is computed from that, and spread over the default number of iterations.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import common
import torch
import true_size
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from eraser_core.backends.clip_tokens import LENGTH, shipped_tokens
from eraser_core.backends.diffusers import DiffusersDenoiser
from eraser_core.backends.text_encoders import OneEncoder, StoredText
from eraser_core.denoiser import NoiseSchedule
from eraser_core.files import peak_memory
from eraser_core.methods import METHODS, Method, uce
from eraser_core.methods.ca import CASettings
from eraser_core.pocket import load_concepts
from eraser_core.request import Request, Target
from eraser_core.text_space import TextSpace, entries, last_tokens

D = 768
# (layers, output width) of SD1.5's attn2: K and V of 16 blocks, 19.2 M weights in all.
SHAPES = ((5, 320), (5, 640), (6, 1280))
SMALL_POOL = 8  # one trajectory of the default pool
COLUMNS = ("method", "concepts", "preserved", "seconds", "rows_nograd", "rows_grad", "peak_bytes", "note")


def weights() -> dict[str, Tensor]:
    """SD1.5's K and V matrices, random."""
    generator, found = torch.Generator().manual_seed(0), {}
    for layers, width in SHAPES:
        for i in range(layers):
            for letter in "kv":
                found[f"{width}.{i}.to_{letter}.weight"] = torch.randn(width, D, generator=generator) * 0.04
    return found


def naive(w: Mapping[str, Tensor], space: TextSpace, l: float, s_e: float, s_p: float) -> dict[str, Tensor]:
    """The formula as it stands, in every layer by itself: a dense right side and one inverse each, float32."""
    c, g, p = (x.float() for x in (space.c, space.g, space.p))
    found = {}
    for key, matrix in w.items():
        left, right = l * matrix, l * torch.eye(D)
        for columns, values, scale in ((c, matrix @ g, s_e), (p, matrix @ p, s_p)):
            for i in range(columns.shape[1]):
                left = left + scale * torch.outer(values[:, i], columns[:, i])
                right = right + scale * torch.outer(columns[:, i], columns[:, i])
        found[key] = left @ torch.linalg.inv(right)
    return found


def rate() -> float:
    """Operations a second of a large float64 product here: what the floor is reckoned with."""
    a = torch.randn(2 * D, 2 * D, dtype=torch.float64)
    a @ a
    _, seconds = common.timed(lambda: [a @ a for _ in range(4)])
    return 4 * 2 * (2 * D) ** 3 / seconds


def operations(w: Mapping[str, Tensor], concepts: int, preserved: int) -> float:
    """What UCE cannot do without: M, its Cholesky factor, two triangular solves, and W L in every layer."""
    matrix = 2 * D * D * (concepts + preserved) + D**3 / 3 + 2 * D * D * concepts
    return matrix + 2 * D * concepts * sum(x.shape[0] for x in w.values())


def closed(rows: common.Rows, sizes: Sequence[tuple[int, int]]) -> None:
    """UCE, ours and naive, how far apart the two results are, and how far ours is from the machine's own speed."""
    w, speed = weights(), rate()
    for concepts, preserved in sizes:
        generator = torch.Generator().manual_seed(concepts)
        c, g, p = (torch.randn(D, n, generator=generator).double() for n in (concepts, concepts, preserved))
        space = TextSpace(c, g, p, torch.ones(c.shape[1], dtype=torch.bool))

        def ours(space: TextSpace = space) -> Any:
            return entries(w, *uce.solve(space, 0.5, 1.0, 1.0, 0.0), "kv")

        ours()
        found, seconds = common.timed(ours)
        dense, slow = common.timed(lambda space=space: naive(w, space, 0.5, 1.0, 1.0))
        off = max(float((w[k] + found[k].delta() - dense[k]).norm() / dense[k].norm()) for k in w)
        least = operations(w, concepts, preserved)
        said = f"{slow / seconds:.0f}x; floor {least / 1e9:.2f} GFLOP, {least / speed:.4f} s"
        for name, took, note in (("uce", seconds, said), ("uce, naive", slow, f"differs {off:.1e}")):
            rows.add(_row(name, concepts, preserved, took, 0, 0, note))


class Reader:
    """A text encoder as the closed forms ask for it, without a network."""

    def __init__(self, text: StoredText):
        self.encode_start, self.token_count = text.encode_start, text.token_count

    def as_read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Stable Diffusion reads states as they are."""
        return tokens


def encoding(rows: common.Rows, sizes: Sequence[tuple[int, int]], tiny: bool) -> None:
    """The text encoder of SD1.5 with random weights: whole prompts, and as UCE reads them, up to the last subject token."""
    width, layers = (64, 2) if tiny else (D, 12)
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        vocab_size=49408,
    )
    torch.manual_seed(0)
    tokens, encoder = shipped_tokens(), CLIPTextModel(config).eval()
    phrases = [concept.phrase for concept in load_concepts().objects]
    for concepts, preserved in sizes:
        prompts = [f"an image of {phrase}" for phrase in phrases[: concepts + preserved]]
        text = StoredText(tokens, lambda: OneEncoder(encoder, tokens.end))
        with torch.no_grad():
            text.encode_start(prompts[:1], 1)
            whole, slow = common.timed(lambda text=text, prompts=prompts: text.encode(prompts).tokens)
            reader = Reader(text)
            cut, quick = common.timed(lambda reader=reader, prompts=prompts: last_tokens(reader, prompts))
        off = max(float((cut[p] - whole[i, text.token_count(p) - 1]).abs().max()) for i, p in enumerate(prompts))
        longest = max(text.token_count(p) for p in prompts)
        said = f"{longest} tokens of {LENGTH}, {slow / quick:.1f}x, differs {off:.1e}"
        for name, took, note in (("text, cut", quick, said), ("text, whole prompts", slow, f"{LENGTH} tokens")):
            rows.add(_row(name, concepts, preserved, took, 0, 0, note))


def _row(
    method: str, concepts: int, preserved: int, seconds: float, no_grad: float, grad: float, note: str
) -> common.Row:
    numbers = {"seconds": round(seconds, 4), "rows_nograd": no_grad, "rows_grad": grad, "peak_bytes": peak_memory()}
    return {"method": method, "concepts": concepts, "preserved": preserved, **numbers, "note": note}


def sd15(latent: int, tiny: bool) -> DiffusersDenoiser:
    """SD1.5's UNet with random weights; `tiny` has a tenth of its width, for the smoke test."""
    widths = (32, 64, 64, 64) if tiny else (320, 640, 1280, 1280)
    unet = UNet2DConditionModel(
        sample_size=latent, cross_attention_dim=D, attention_head_dim=8, block_out_channels=widths
    )
    vae = AutoencoderTiny(encoder_block_out_channels=[8] * 4, decoder_block_out_channels=[8] * 4)
    return DiffusersDenoiser("sd1", unet, true_size.RandomText(D, 0), vae, NoiseSchedule.scaled_linear())


def pool_share(method: Method) -> float:
    """What one iteration of a run at the default settings bears of filling its pool, against filling the small one.

    CA's is of the anchor's pictures, of which one is drawn here.
    """
    usual: Any = method.settings()
    if isinstance(usual, CASettings):
        return usual.anchor_images / usual.iterations
    return float(usual.pool_size / SMALL_POOL / usual.iterations)


def gradient(rows: common.Rows, methods: Sequence[str], latent: int, iterations: int, tiny: bool) -> None:
    """One iteration of gradient methods, from a pool and anew."""
    denoiser = sd15(latent, tiny)
    request = Request((Target("a church", "a castle"),))
    for name, method in METHODS.items():
        if method.learner is None or name not in methods:
            continue
        for latents in ("pool",) if name == "ca" else ("pool", "fresh"):
            small = {"pool_size": SMALL_POOL, "sampler_steps": 50 if not tiny else 4}
            extra = common.SHORT_START.get(name, {})
            settings: Any = method.settings(latents=latents, **small, **extra)
            learner = method.learner(denoiser, request, settings, 0)
            before, began = denoiser.rows.no_grad, time.perf_counter()
            learner.begin()
            # The default pool and its length of run; denoised anew, the first z_t is not one of the steps' counted here.
            share = pool_share(method) if latents == "pool" else 0.0
            filling = share * (denoiser.rows.no_grad - before), share * (time.perf_counter() - began)
            grad, no_grad, began = denoiser.rows.grad, denoiser.rows.no_grad, time.perf_counter()
            for step in range(1, iterations + 1):
                learner.step(step)
            seconds = (time.perf_counter() - began) / iterations + filling[1]
            spent = (
                (denoiser.rows.no_grad - no_grad) / iterations + filling[0],
                (denoiser.rows.grad - grad) / iterations,
            )
            rows.add(_row(name, 1, 0, seconds, *spent, f"{latents}, {latent}x{latent} latents, an iteration"))


def savings(rows: Sequence[common.Row]) -> list[common.Row]:
    """How many times fewer rows and seconds an iteration takes from a pool than with fresh denoisings, a row a method."""
    spent = {(r["method"], r["note"].split(",")[0]): (r["rows_nograd"] + r["rows_grad"], r["seconds"]) for r in rows}
    return [
        {"method": method, "rows": pooled[0], "fewer_rows": fresh[0] / pooled[0], "faster": fresh[1] / pooled[1]}
        for (method, latents), pooled in spent.items()
        if latents == "pool" and (fresh := spent.get((method, "fresh"))) is not None
    ]


def main() -> int:
    """Run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("closed", "gradient"))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), help="of the gradient methods")
    parser.add_argument("--name", default="cost", help="name of the JSON file")
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="a narrow network, few concepts")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("cost_smoke" if args.smoke else args.name, ("method", "concepts", "note"), fresh=True)
    if args.only != "gradient":
        closed(rows, [(1, 0)] if args.smoke else [(1, 0), (10, 100), (100, 1000)])
        encoding(rows, [(1, 0)] if args.smoke else [(1, 0), (10, 100)], args.smoke)
    if args.only != "closed":
        gradient(rows, args.methods, 8 if args.smoke else args.latent, args.iterations, args.smoke)
    text = common.table(rows.rows, COLUMNS)
    if args.only != "closed":
        saved = common.table(savings(rows.rows), ("method", "rows", "fewer_rows", "faster"))
        text += f"\npool against fresh, an iteration\n\n{saved}"
    common.show("cost_smoke" if args.smoke else args.name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
