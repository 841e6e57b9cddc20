"""Peak memory of one KPOP training step on Stable Diffusion's true UNets, each memory preset.

    python benchmarks/memory.py                    # SD1.5 at 512 and SDXL at 1024, computed from tensor sizes; measured
                                                   # too where a GPU is at hand
    python benchmarks/memory.py --measure sd15     # besides, a real step on the CPU in fp32: growth of the peak RSS
    python benchmarks/memory.py --measure sdxl --only sdxl --side 32    # SDXL fits into 24 GB in fp32 with small pictures
    python benchmarks/memory.py --smoke            # narrow networks, computed and measured

Rows that are there are kept. What the pools hold comes on top of a step, in rows of its own.

"computed" walks through the step with tensors that have sizes only (eraser_core/estimate.py). A GPU's runtime, scratch
space of kernels and what its allocator wastes come on top. The authors' recipe is two UNets in fp32, dense changes of
K and V with Adam, nothing recomputed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import common
import torch
import true_size

from eraser_core.backends.diffusers import Budget
from eraser_core.backends.stored_model import BUDGETS
from eraser_core.edits import make_edit
from eraser_core.estimate import GB, GUIDED_FILL, Plan, need
from eraser_core.files import peak_memory
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target
from eraser_core.retain_lists import words_of

RANK, K = 16, 10
COLUMNS = ("model", "preset", "precision", "side", "weights_gb", "trained_gb", "peak_gb", "how", "estimate_gb", "off")
FORWARDS = ((1, 77), (1, 77 + K))
KEPT_FORWARDS = ((2, 77), (1, 77 + K))  # a retained prompt goes with each of the concept's
KEPT = ", a retain set"
ROBUST = ", robust"
AUTHORS = "the authors' two UNets"
KEY = ("model", "preset", "precision", "side", "how")
COMPUTED, MEASURED = "computed from tensor sizes", "measured, CPU RSS"


def plan(name: str, preset: str, dtype: torch.dtype, side: int, narrow: bool) -> Plan:
    """One step of KPOP at batch 1, without a retain set unless the preset says so; or of `robust`, which has one."""
    config, family = true_size.unet_config(name, narrow), true_size.FAMILIES[name]
    if preset.endswith(ROBUST):
        settings = METHODS["robust"].configure(family, {})
        forwards = ((settings.student_rows(settings.batch), 77),)
        budget = BUDGETS[preset.removesuffix(ROBUST)]
        return Plan(family, config, dtype, budget, side, settings.tune, settings.rank, 2, forwards)
    budget, rank = (Budget(rows_at_once=8), 0) if preset == AUTHORS else (BUDGETS[preset.removesuffix(KEPT)], RANK)
    forwards = KEPT_FORWARDS if preset.endswith(KEPT) else FORWARDS
    return Plan(family, config, dtype, budget, side, "xattn-kv", rank, 2, forwards)


def computed(name: str, preset: str, dtype: torch.dtype, side: int, narrow: bool) -> common.Row:
    """From tensor sizes; the authors' recipe holds its weights twice."""
    found = need(plan(name, preset, dtype, side, narrow))
    again = found.weights if preset == AUTHORS else 0
    return {
        "model": name,
        "preset": preset,
        "precision": str(dtype).removeprefix("torch."),
        "side": side,
        "weights_gb": (found.weights + again) / GB,
        "trained_gb": found.edit / GB,
        "peak_gb": (found.peak + again) / GB,
        "how": COMPUTED,
    }


def pools(name: str, side: int, concepts: int, retain: bool = False) -> common.Row:
    """What KPOP's pools hold throughout a run at its defaults: z_t with two targets each, in fp32."""
    targets = tuple(Target(f"concept {i}", "anchor") for i in range(concepts))
    request = Request(targets, words_of("object") if retain else ())
    kept = METHODS["kpop"].configure(true_size.FAMILIES[name], {}, retain).kept_latents(request)
    preset = f"pools, concepts: {concepts}{KEPT if retain else ''}"
    named = {"model": name, "preset": preset, "precision": "float32", "side": side}
    return {**named, "weights_gb": None, "trained_gb": None, "peak_gb": kept * 4 * side**2 * 4 / GB, "how": COMPUTED}


def step(name: str, preset: str, dtype: torch.dtype, side: int, narrow: bool, device: str) -> None:
    """A real step: the pool's denoising, two forwards, one backward, one step of Adam."""
    budget = BUDGETS[preset]
    denoiser = true_size.denoiser(name, narrow, side, dtype, budget, device)
    edit = make_edit(denoiser, "xattn-kv", RANK, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(edit.parameters(), lr=1e-4)
    context = denoiser.encode(["church"])
    longer = context.with_tokens(torch.cat([context.tokens, context.tokens[:, :K]], 1))
    rows = min(GUIDED_FILL, budget.rows_at_once or GUIDED_FILL)
    z, t = torch.randn(1, *denoiser.latent_shape, device=device), torch.tensor([500], device=device)
    with torch.no_grad():
        denoiser.predict(z.expand(rows, -1, -1, -1), t.expand(rows), context.expand(rows), edit)
    losses = [denoiser.predict(z, t, c, edit).square().mean() for c in (context, longer)]
    torch.stack(losses).sum().backward()
    optimizer.step()


def measured(name: str, preset: str, side: int, narrow: bool) -> common.Row:
    """On the CPU in fp32, in a process of its own: by how much the peak RSS grows over what it is before the model."""
    words = [sys.executable, str(Path(__file__).resolve()), "--child", name, preset, str(side), str(int(narrow))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    row = computed(name, preset, torch.float32, side, narrow)
    estimate, peak = row["peak_gb"], float(done.stdout.split()[-1]) / GB
    return {**row, "peak_gb": peak, "how": MEASURED, "estimate_gb": estimate, "off": estimate / peak - 1}


def child(name: str, preset: str, side: int, narrow: bool) -> None:
    """Print the growth in bytes. A narrow network's step comes first, so that libraries are loaded and warm."""
    for warm_up in ("normal", "low"):
        step(name, warm_up, torch.float32, 8, True, "cpu")
    before = peak_memory() or 0
    step(name, preset, torch.float32, side, narrow, "cpu")
    sys.stdout.write(f"{(peak_memory() or 0) - before}\n")


def on_gpu(name: str, preset: str, dtype: torch.dtype, side: int, narrow: bool) -> common.Row:
    """The same step on the GPU at hand."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(name, preset, dtype, side, narrow, "cuda")
    row = computed(name, preset, dtype, side, narrow)
    estimate, peak = row["peak_gb"], (torch.cuda.max_memory_allocated() - before) / GB
    return {**row, "peak_gb": peak, "how": gpu(), "estimate_gb": estimate, "off": estimate / peak - 1}


def gpu() -> str:
    """How the GPU's rows are marked."""
    return f"measured, {torch.cuda.get_device_name()}"


def wanted(args: argparse.Namespace, name: str, side: int) -> Iterator[tuple[common.Row, Callable[[], common.Row]]]:
    """What names each row of a model, and what makes it."""
    for preset, dtype in ((AUTHORS, torch.float32), ("normal", torch.float16), ("low", torch.float16)):
        named = {"model": name, "preset": preset, "precision": str(dtype).removeprefix("torch."), "side": side}
        yield {**named, "how": COMPUTED}, partial(computed, name, preset, dtype, side, args.smoke)
        if torch.cuda.is_available() and preset != AUTHORS:
            yield {**named, "how": gpu()}, partial(on_gpu, name, preset, dtype, side, args.smoke)
    for preset in (f"normal{KEPT}", f"low{KEPT}", f"normal{ROBUST}", f"low{ROBUST}"):
        named = {"model": name, "preset": preset, "precision": "float16", "side": side, "how": COMPUTED}
        yield named, partial(computed, name, preset, torch.float16, side, args.smoke)
    for concepts, retain in ((1, False), (10, False), (1, True)):
        yield pools(name, side, concepts, retain), partial(pools, name, side, concepts, retain)
    presets = ("normal", "low") if name in args.measure else ()
    for preset in ("low",) if args.smoke and name == "sd15" else presets:
        # Small pictures fit into what the warm-up left: nothing would be seen to grow.
        own = 64 if args.smoke else side
        named = {"model": name, "preset": preset, "precision": "float32", "side": own, "how": MEASURED}
        yield named, partial(measured, name, preset, own, args.smoke)


def main() -> int:
    """All rows, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(true_size.UNETS), help="one model")
    parser.add_argument("--measure", nargs="*", default=[], help="models to take a real step of on the CPU")
    parser.add_argument("--side", type=int, help="side of the latents (default: 64 for SD1.5, 128 for SDXL)")
    parser.add_argument("--smoke", action="store_true", help="narrow networks")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], args.child[1], int(args.child[2]), bool(int(args.child[3])))
        return 0
    common.start_logging()
    rows = common.Rows("memory_smoke" if args.smoke else "memory", KEY, fresh=args.smoke)
    for name in [args.only] if args.only else list(true_size.UNETS):
        side = args.side or (16 if args.smoke else true_size.SIDES[name])
        for named, make in wanted(args, name, side):
            if not rows.has(named):
                rows.add(make())
    sys.stdout.write(common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
