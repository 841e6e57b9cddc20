"""Many opt-outs in one model: files stacked, files combined, lists in closed form, and KPOP that starts from there.

    python benchmarks/many.py
    python benchmarks/many.py --smoke

No setting was tuned on these objects. Those of pocket_objects.py, and lists of others that are not here, were. A fixed half R of the other objects is retained, the
other half H is named to nobody. `esr1` is the share of the erased objects' pictures that do not show them, `kept1` of H that
are right, `retained1` of R, `recovery1` of the erased objects with each one's own hidden prompt; each of --images pictures.
`esr1_synonym` is `esr1` where the prompts say synonyms of the erased objects, which no run named, of a quarter as many.
`seconds` are those of the solve or the training (of single files: of the combining alone), on the machine named. Pictures
by DPM-Solver++ in 8 steps (benchmarks/solver.py). A row a (way, concepts, seed) in out/benchmarks/many.json; a rerun goes on.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import common
import torch

from eraser_core.denoiser import Edit
from eraser_core.erasing import Erased, configure, erase
from eraser_core.erasure import stack
from eraser_core.evaluation.examiner import Question
from eraser_core.evaluation.metrics.objects import Rate, esr, psr
from eraser_core.evaluation.pocket.tasks import object_task, questions
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.many.combine import CombineSettings, combine, source
from eraser_core.methods import METHODS
from eraser_core.models import Model, open_model
from eraser_core.pocket.concepts import Concept
from eraser_core.request import Request

# Four of two words: the pocket model has five, and one of them was tuned on.
TEN = ("palm tree", "light bulb", "gas pump", "top hat", "violin", "whale", "castle", "bicycle", "scissors", "tulip")
TWENTY = (*TEN, "cat", "panda", "factory", "helicopter", "piano", "banana", "key", "telephone", "umbrella", "bell")
KEY = ("way", "concepts", "n", "seed")
COLUMNS = ("way", "concepts", "seed", "n", "esr1", "esr1_synonym", "kept1", "retained1", "recovery1", "seconds")
STEPS = 8
STACKED, COMBINED = "KPOP files stacked", "KPOP files combined"
# A run of the whole list: by which method, with which settings.
AT_ONCE: dict[str, tuple[str, dict[str, Any]]] = {
    "UCE, moments": ("uce", {}),
    "UCE, its authors' code": ("uce", {"preset": "current"}),
    "Double Projections": ("dp", {}),
    "KPOP": ("kpop", {}),
    "KPOP, not confined": ("kpop", {"confine": 0}),
    "KPOP from the model": ("kpop", {"start": "model", "confine": 0}),
    "ESD": ("esd", {}),
    "ESD, confined": ("esd", {"confine": 2}),
    "CA": ("ca", {}),
    "CA, confined": ("ca", {"confine": 2}),
}


@dataclass(frozen=True)
class Lists:
    """Who is erased, retained, and named to nobody, and the tasks of the erased ones."""

    erased: tuple[Concept, ...]
    retained: tuple[Concept, ...]
    unnamed: tuple[Concept, ...]
    requests: tuple[Request, ...]

    def together(self, seed: int) -> Request:
        return Request(tuple(r.targets[0] for r in self.requests), self.requests[0].retain, seed)


def lists(model: Model, names: Sequence[str], seed: int) -> Lists:
    """A half of the other objects by the seed; every request retains the same half."""
    concepts = common.concepts_of(model)
    erased = [c for c in concepts.drawn if c.name in names]
    others = [c for c in concepts.drawn if c.name not in names]
    retained = random.Random(f"many/{seed}").sample(others, len(others) // 2)
    kept = [c.name for c in retained]
    requests = [object_task(concepts, model.denoiser, c.name, retain=kept, seed=seed, n=1).request for c in erased]
    unnamed = [c for c in others if c not in retained]
    return Lists(tuple(erased), tuple(retained), tuple(unnamed), tuple(requests))


def asked(model: Model, which: Sequence[Concept], n: int, first: int) -> tuple[Question, ...]:
    """n questions, evenly over these objects."""
    return questions(common.concepts_of(model), [(c, c.phrase) for c in which], n, first)


def scored(model: Model, of: Lists, edit: Edit | None, prompts: Sequence[HiddenPrompt], n: int) -> common.Row:
    """The four shares under one edit."""
    examiner, each = model.examiner, max(n // len(of.erased), 1)
    gone = torch.cat([examiner.ranks(asked(model, [c], each, 0), edit) for c in of.erased])
    row: common.Row = {"esr1": esr(gone).value, "esr1_interval": esr(gone).interval(), "recovery1": None}
    renamed = [(c, word) for c in of.erased for word in c.synonyms]
    other = esr(examiner.ranks(questions(common.concepts_of(model), renamed, max(n // 4, 4), 10_000), edit))
    row |= {"esr1_synonym": other.value, "esr1_synonym_interval": other.interval()}
    for name, which, first in (("kept1", of.unnamed, 30_000), ("retained1", of.retained, 40_000)):
        rate = psr(examiner.ranks(asked(model, which, n, first), edit))
        row |= {name: rate.value, f"{name}_interval": rate.interval()}
    if prompts:
        back = [examiner.ranks(asked(model, [c], each, 0), edit, p) for c, p in zip(of.erased, prompts, strict=True)]
        found: Rate = psr(torch.cat(back))
        row |= {"recovery1": found.value, "recovery1_interval": found.interval()}
    return row


def at_once(model: Model, of: Lists, method: str, values: dict[str, Any], seed: int) -> Erased:
    """All in one run."""
    request = of.together(seed)
    settings = configure(METHODS[method], model.denoiser.family, request, values)
    return erase(model.denoiser, request, METHODS[method], settings, key_seed=seed)


def singles(model: Model, of: Lists, values: dict[str, Any], seed: int) -> list[Erased]:
    """Each alone by KPOP."""
    made = []
    for i, request in enumerate(of.requests):
        settings = configure(METHODS["kpop"], model.denoiser.family, request, {**common.PUBLISHED["kpop"], **values})
        made.append(erase(model.denoiser, request, METHODS["kpop"], settings, key_seed=seed + i))
        common.log.info("%s: %.0f s", request.targets[0].concept, made[-1].seconds)
    return made


def run(model: Model, rows: common.Rows, names: Sequence[str], args: argparse.Namespace, seed: int) -> None:
    """Every way for one list and seed that is asked for and not there yet."""
    of, n = lists(model, names, seed), args.images
    quick = dict(common.SMOKE) if args.smoke else {}

    def add(way: str, edit: Edit | None, prompts: Sequence[HiddenPrompt], seconds: float | None) -> None:
        row = {"way": way, "concepts": len(names), "n": n, "seed": seed, "machine": common.machine()}
        rows.add({**row, "seconds": seconds, **scored(model, of, edit, prompts, n)})
        common.log.info("%s", rows.rows[-1])

    def lacks(way: str) -> bool:
        asked = not args.ways or way in args.ways
        return asked and not rows.has({"way": way, "concepts": len(names), "n": n, "seed": seed})

    if lacks("untouched"):
        add("untouched", None, (), None)
    for way, (method, values) in AT_ONCE.items():
        trained = METHODS[method].learner is not None
        if lacks(way) and not (trained and len(names) > len(TEN)):
            values = {**more_steps(method), **values, **quick} if trained else values
            made = at_once(model, of, method, values, seed)
            add(way, made.erasure.as_edit(), made.prompts, made.seconds)
    if len(names) <= len(TEN) and (lacks(STACKED) or lacks(COMBINED)):
        alone = singles(model, of, {**SINGLE_KPOP, **quick}, seed)
        own = [one.prompts[0] for one in alone]
        if lacks(COMBINED):
            sources = [source(r.targets[0].concept, a.erasure) for r, a in zip(of.requests, alone, strict=True)]
            found = combine(model.denoiser, sources, CombineSettings(), [[p] for p in own])
            add(COMBINED, found.erasure.as_edit(), found.prompts, found.seconds + found.text_seconds)
        if lacks(STACKED):
            together = stack([one.erasure for one in alone], [1.0] * len(alone))
            add(STACKED, together, own, sum(one.seconds for one in alone))


# The demo's settings: half the time of the default's.
SINGLE_KPOP = {"pool_size": 96, "sampler_steps": 8}


def more_steps(method: str) -> dict[str, Any]:
    """Two and a half times the steps of one concept, and a pool as large for all ten as for one."""
    one = METHODS[method].configure("pocket", {})
    return {"iterations": 5 * one.iterations // 2, "pool_size": 26, "sampler_steps": 8}


def main() -> int:
    """All rows, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="pictures a share")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument(
        "--ways", nargs="*", choices=("untouched", *AT_ONCE, COMBINED, STACKED), help="rows of these only"
    )
    parser.add_argument("--smoke", action="store_true", help="two objects, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("many_smoke" if args.smoke else "many", KEY, fresh=args.smoke)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else STEPS, solver="dpmpp")
    if args.smoke:
        args.images, args.seeds = 4, [0]
    for seed in args.seeds:
        for names in (TEN[:2],) if args.smoke else (TEN, TWENTY):
            run(model, rows, names, args, seed)
    common.show(rows.path.stem, common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
