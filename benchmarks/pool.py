"""Is a pool of partial denoisings as good as the authors' schedule, which denoises anew for every step?

    python benchmarks/pool.py           # KPOP and ESD, three objects, two seeds
    python benchmarks/pool.py --smoke

Both schedules on the same objects, seeds and pictures: forward rows an iteration (with and without gradient, filling
the pool spread over the iterations), seconds, and the differences of ESR-1 and PSR-1 paired by picture, with intervals.
Rows in out/benchmarks/pool.json, a row a (method, concept, seed, latents); the paired differences in
out/benchmarks/pool_paired.json. Every forward row counts the same; `speedup_authors` is what the pool would save against
50 sampler steps, the authors' number, computed from this run's own counts. About 13 minutes a (method, concept, seed) on
one core.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import common
import torch
from variants import OBJECTS, Variant, task_of

from eraser_core.erasing import configure, erase
from eraser_core.evaluation.metrics.objects import esr, psr
from eraser_core.evaluation.metrics.paired import rate_difference
from eraser_core.files import write_json
from eraser_core.methods import METHODS
from eraser_core.models import Model

KEY = ("method", "concept", "seed", "latents")
COLUMNS = ("esr1", "psr1", "rows_nograd", "rows_grad", "seconds")
PAIRED = ("method", "figure", "pool", "fresh", "difference", "low", "high", "n")
SAVED = ("method", "speedup_rows", "speedup_authors", "speedup_seconds")
SCHEDULES = ("pool", "fresh")


def run(
    model: Model, method: str, name: str, latents: str, seed: int, images: int, quick: dict[str, Any]
) -> common.Row:
    """One erasing under one schedule, with the judge's verdict on every picture."""
    task = task_of(model, Variant("", ""), name, images, seed)
    chosen = METHODS[method]
    settings = configure(
        chosen, model.denoiser.family, task.request, {**common.PUBLISHED.get(method, {}), "latents": latents, **quick}
    )
    before = model.denoiser.rows.no_grad, model.denoiser.rows.grad
    result = erase(model.denoiser, task.request, chosen, settings, key_seed=seed)
    spent = model.denoiser.rows.no_grad - before[0], model.denoiser.rows.grad - before[1]
    edit = result.erasure.as_edit()
    erased, kept = (model.examiner.ranks(task.sheets[sheet], edit) for sheet in ("erased", "kept"))
    common.log.info("%s %s, %s: %.0f s", method, latents, name, result.seconds)
    return {
        "method": method,
        "concept": name,
        "seed": seed,
        "latents": latents,
        "esr1": esr(erased).value,
        "psr1": psr(kept).value,
        "rows_nograd": spent[0] / settings.iterations,
        "rows_grad": spent[1] / settings.iterations,
        "seconds": round(result.seconds, 1),
        "sampler_steps": settings.sampler_steps,
        "n": images,
        "steps": model.examiner.steps,
        "weights": model.denoiser.base_hash[:16],
        "machine": common.machine(),
        "erased_hits": common.digits(erased > 0),
        "kept_hits": common.digits(kept == 0),
    }


def paired(rows: list[common.Row], method: str) -> list[common.Row]:
    """Pool minus fresh on the same pictures."""
    by = {tuple(r[k] for k in KEY): r for r in rows if r["method"] == method}
    both = [k[:3] for k in by if k[3] == "pool" and (*k[:3], "fresh") in by]
    if not both:
        return []
    spent = {s: common.means([by[(*k, s)] for k in both], ["latents"], COLUMNS)[0] for s in SCHEDULES}
    total = {s: spent[s]["rows_nograd"] + spent[s]["rows_grad"] for s in SCHEDULES}
    steps = by[(*both[0], "fresh")]["sampler_steps"]
    # Only the denoising grows with the sampler's steps; the targets at its ends do not, and are a few rows.
    authors = {s: spent[s]["rows_nograd"] * 50 / steps + spent[s]["rows_grad"] for s in SCHEDULES}
    found = []
    for figure, hits in (("esr1", "erased_hits"), ("psr1", "kept_hits")):
        one, two = (torch.tensor([h == "1" for k in both for h in by[(*k, s)][hits]]) for s in SCHEDULES)
        d = rate_difference(one, two)
        found.append(
            {
                "method": method,
                "figure": figure,
                "pool": float(one.float().mean()),
                "fresh": float(two.float().mean()),
                "difference": d.value,
                "low": d.low,
                "high": d.high,
                "n": d.n,
                "speedup_rows": total["fresh"] / total["pool"],
                "speedup_authors": authors["fresh"] / authors["pool"],
                "speedup_seconds": spent["fresh"]["seconds"] / max(spent["pool"]["seconds"], 1e-9),
            }
        )
    return found


def main() -> int:
    """Run what is missing, print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=["kpop", "esd"])
    parser.add_argument("--objects", nargs="*", default=OBJECTS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, help="sampling steps of the pictures (default: the model's)")
    parser.add_argument("--name", default="pool")
    parser.add_argument("--take", nargs="*", default=[], help="names whose rows are taken over first")
    parser.add_argument("--smoke", action="store_true", help="one method and object, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    quick: dict[str, Any] = {}
    if args.smoke:
        args.methods, args.objects, args.seeds, args.images = ["kpop"], OBJECTS[:1], [0], 4
        args.name, quick = "pool_smoke", common.SMOKE
    model = common.pocket(3 if args.smoke else args.steps)
    rows = common.Rows(args.name, KEY, fresh=args.smoke)
    rows.take(args.take)
    for method in args.methods:
        for seed in args.seeds:
            for name in args.objects:
                for latents in SCHEDULES:
                    if not rows.has({"method": method, "concept": name, "seed": seed, "latents": latents}):
                        rows.add(run(model, method, name, latents, seed, args.images, quick))
    means = common.means(rows.rows, ["method", "latents"], COLUMNS)
    differences = [row for method in args.methods for row in paired(rows.rows, method)]
    write_json(common.OUT / f"{args.name}_paired.json", differences)
    text = common.table(means, ("method", "latents", "runs", *COLUMNS))
    text += f"\npool minus fresh, paired by picture\n\n{common.table(differences, PAIRED)}"
    once = [row for row in differences if row["figure"] == "esr1"]  # both figures' rows have the same
    common.show(args.name, f"{text}\nwhat a pool saves\n\n{common.table(once, SAVED)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
