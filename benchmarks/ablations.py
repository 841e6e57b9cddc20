"""The slides' ablations of KPOP on the pocket model: lambda, the prompt's length k, the mechanism, the prompt in training.

    python benchmarks/ablations.py                # all
    python benchmarks/ablations.py --only lambda  # a group: lambda, k, mechanism, course
    python benchmarks/ablations.py --smoke

A row a (variant, object, seed) in out/benchmarks/ablations.json and, for what p draws at 0, 25, 50, 75 and 100 % of
training, out/benchmarks/ablations_course.json; figures beside them as PNG. An interrupted run goes on. About three
minutes a row on one core, 33 rows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import common
import torch
from matplotlib.figure import Figure
from variants import DEFAULT, Variant, swept, task_of

from eraser_core.erasing import configure, erase
from eraser_core.evaluation.metrics.objects import psr
from eraser_core.evaluation.report import grid
from eraser_core.files import write_bytes
from eraser_core.methods import METHODS
from eraser_core.methods.kpop import KPOP
from eraser_core.models import Model
from eraser_core.training import Step

LAMBDAS = (0.0, 0.1, 0.3, 1.0, 3.0)
KS = (1, 8, 10, 100, 200)
VARIANTS = (
    *(Variant("lambda", str(v), {"lambda": v}) for v in LAMBDAS if v != 0.3),
    *(Variant("k", str(k), {"k": k}) for k in KS if k != 8),
    Variant("mechanism", "additive", {"mechanism": "additive"}),
    DEFAULT,
)
# Where the default, measured once, belongs on each axis.
ON_AXIS = {"lambda": "0.3", "k": "8", "mechanism": "concatenative"}
CURVES = {"esr1": "erased (ESR-1)", "psr1": "others right (PSR-1)", "recovery1": "with p", "forged1": "with a forged p"}
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
COURSE = ("esr1", "recovery1")


def placed(rows: Sequence[common.Row], group: str) -> list[common.Row]:
    """A group's rows with the default among them under its own value."""
    own = [r for r in rows if r["group"] == group]
    return own + [{**r, "group": group, "variant": ON_AXIS[group]} for r in rows if r["group"] == "default"]


def figure(rows: Sequence[common.Row], group: str, path: str) -> None:
    """The means over objects of a group against its setting."""
    means = common.means(placed(rows, group), ["variant"], tuple(CURVES))
    if group != "mechanism":
        means.sort(key=lambda row: float(row["variant"]))
    picture = Figure(figsize=(5, 3.2), layout="constrained")
    axes = picture.subplots()
    for column, label in CURVES.items():
        axes.plot(range(len(means)), [r[column] for r in means], marker="o", label=label)
    axes.set(xlabel=group, ylabel="share of pictures", ylim=(-0.05, 1.05))
    axes.set_xticks(range(len(means)), [r["variant"] for r in means])
    axes.legend(fontsize=8)
    picture.savefig(common.OUT / path, dpi=120)


class Course:
    """What theta' and p draw of the concept at shares of a run: rows and pictures, gathered from its steps."""

    def __init__(self, model: Model, name: str, images: int):
        self.model, self.name, self.images = model, name, images
        self.task = task_of(model, DEFAULT, name, images, 0)
        self.rows: list[common.Row] = []
        self.pictures: list[tuple[str, torch.Tensor]] = []

    def look(self, share: float, step: int, learner: Any) -> None:
        """Draw the concept with and without the prompt as they stand."""
        sheet, (hidden,), examiner = self.task.sheets["erased"], learner.prompts(), self.model.examiner
        said, indices = [q.prompt for q in sheet], [q.index for q in sheet]
        drawn = [examiner.images(said, indices, learner.edit, p) for p in (None, hidden)]
        rates = [psr(examiner.rank_images(sheet, images)).value for images in drawn]
        named = {"concept": self.name, "share": share, "step": step, "n": len(sheet)}
        self.rows.append({**named, "esr1": 1 - rates[0], "recovery1": rates[1]})
        self.pictures.append((f"step {step}", torch.cat([images[:4] for images in drawn])))

    def run(self, quick: Mapping[str, Any]) -> None:
        """One erasing, looked at on the way."""
        method = METHODS["kpop"]
        settings = configure(
            method, self.model.denoiser.family, self.task.request, {**common.PUBLISHED["kpop"], **quick}
        )
        total = settings.iterations
        self.look(0.0, 0, KPOP(self.model.denoiser, self.task.request, settings, 0))
        at = {max(1, round(share * total)): share for share in SHARES[1:]}

        def report(step: Step) -> None:
            if step.step in at:
                self.look(at[step.step], step.step, step.learner)

        erase(self.model.denoiser, self.task.request, method, settings, key_seed=0, on_step=report)


def course(model: Model, objects: Sequence[str], images: int, quick: Mapping[str, Any], name: str) -> None:
    """The prompt over training steps: a row a (object, share), a picture an object."""
    rows = common.Rows(name, ("concept", "share"), fresh=bool(quick))
    for concept in objects:
        if rows.has({"concept": concept, "share": 1.0}):
            continue
        seen = Course(model, concept, images)
        seen.run(quick)
        picture = grid.grid(seen.pictures, ["without p", "with p"], 4, cell=64)
        write_bytes(common.OUT / f"{name}_{concept}.png", grid.png(picture))
        for row in seen.rows:
            rows.add(row)
    means = common.means(rows.rows, ["share", "step"], COURSE)
    common.show(name, common.table(means, ("share", "step", "runs", *COURSE)))


def main() -> int:
    """Run what is missing, print the means, draw the figures."""
    args, model, rows, quick = swept(__doc__, "ablations", VARIANTS, ("course",))
    for group in ON_AXIS:
        if any(r["group"] == group for r in rows.rows):
            figure(rows.rows, group, f"{args.name}_{group}.png")
    if not args.only or "course" in args.only:
        course(model, args.objects, args.images, quick, f"{args.name}_course")
    return 0


if __name__ == "__main__":
    sys.exit(main())
