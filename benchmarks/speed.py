"""Seconds an iteration on Stable Diffusion's true UNets with random weights: each method, fresh and pooled latents.

    python benchmarks/speed.py                 # SD1.5 at 512 and SDXL at 1024, on a GPU where one is at hand
    python benchmarks/speed.py --only sd15 --side 16
    python benchmarks/speed.py --smoke

A pool's own rows are told apart: `pool_seconds` is what filling it took, once. Closed forms are solved once, so their
row says the whole solve. The precision is fp16 on a GPU, fp32 on a CPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import common
import torch
import true_size

from eraser_core.backends.diffusers import DiffusersDenoiser
from eraser_core.backends.stored_model import BUDGETS
from eraser_core.erasing import erase
from eraser_core.methods import METHODS, Method
from eraser_core.request import Request, Target

COLUMNS = (
    "model",
    "side",
    "device",
    "method",
    "latents",
    "memory",
    "seconds",
    "pool_seconds",
    "rows_grad",
    "rows_nograd",
)
KEY = ("model", "side", "device", "memory", "method", "latents")
REQUEST = Request((Target("church", "castle"),))


def waited(device: str) -> float:
    """Now, when everything asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def gradient(
    denoiser: DiffusersDenoiser, method: Method, latents: str, iterations: int, device: str, sampler_steps: int
) -> common.Row:
    """Mean seconds of some iterations after a first one."""
    if method.learner is None:
        raise ValueError(f"{method.name} has nothing to iterate")
    values: dict[str, Any] = {"pool_size": 4, "per_trajectory": 4, "sampler_steps": sampler_steps, "latents": latents}
    values |= common.SHORT_START.get(method.name, {})
    learner = method.learner(denoiser, REQUEST, method.configure(denoiser.family, values, False), 0)
    began = waited(device)
    learner.begin()
    filled = waited(device)
    learner.step(1)
    grad, no_grad, started = denoiser.rows.grad, denoiser.rows.no_grad, waited(device)
    for step in range(2, iterations + 2):
        learner.step(step)
    return {
        "seconds": (waited(device) - started) / iterations,
        "pool_seconds": filled - began,
        "rows_grad": (denoiser.rows.grad - grad) / iterations,
        "rows_nograd": (denoiser.rows.no_grad - no_grad) / iterations,
    }


def main() -> int:
    """All rows, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(true_size.UNETS), help="one model")
    parser.add_argument("--side", type=int, help="side of the latents (default: 64 for SD1.5, 128 for SDXL)")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--sampler-steps", type=int, default=50)
    parser.add_argument("--memory", choices=tuple(BUDGETS), default="normal")
    parser.add_argument("--smoke", action="store_true", help="narrow networks, few steps")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("speed_smoke" if args.smoke else "speed", KEY, fresh=args.smoke)
    device = common.device()
    dtype = torch.float16 if device == "cuda" else torch.float32
    iterations, sampler_steps = (1, 4) if args.smoke else (args.iterations, args.sampler_steps)
    for name in [args.only] if args.only else true_size.UNETS:
        side = args.side or (8 if args.smoke else true_size.SIDES[name])
        denoiser = true_size.denoiser(name, args.smoke, side, dtype, BUDGETS[args.memory], device)
        named = {"model": name, "side": side, "device": common.machine(), "memory": args.memory}
        for method in METHODS.values():
            if method.learner is None:
                if rows.has({**named, "method": method.name, "latents": "none"}):
                    continue
                erased = erase(denoiser, REQUEST, method, method.configure(denoiser.family, {}, False))
                rows.add({**named, "method": method.name, "latents": "none", "seconds": erased.seconds})
                continue
            for latents in ("pool",) if method.name == "ca" else ("pool", "fresh"):
                if rows.has({**named, "method": method.name, "latents": latents}):
                    continue
                row = gradient(denoiser, method, latents, iterations, device, sampler_steps)
                rows.add({**named, "method": method.name, "latents": latents, **row})
    sys.stdout.write(common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
