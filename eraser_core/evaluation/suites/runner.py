"""Draws a plan's pictures, then scores them; whatever lies in the folder already is not done again.

A picture is written as it comes, whole or not at all; so are a batch's scores. Scores are taken from the PNG files
alone, so a resumed run scores what the uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...denoiser import Context, Edit
from ...errors import ModelError
from ...files import write_bytes, write_tensors
from ...models import Model
from ...progress import Phase
from ...sampling import seeded_noise
from ..metrics.fid import to_tensor
from ..report.grid import png, to_pil
from .items import Pictures, Subject
from .manifest import Plan, Unit, Variant
from .processes import Processes
from .scorers import Metric, Scorer

Check = Callable[[], None]


def draw_pictures(
    model: Model, plan: Plan, edits: Mapping[str, Edit], out: Path, processes: Processes, check: Check
) -> None:
    """All pictures that are not there yet. `edits` by the subject's name; `check` is called after every batch and may
    raise to stop."""
    missing = [unit for unit in plan.units if not all(unit.picture(out, item).is_file() for item in unit.items)]
    processes.wait()  # nobody draws before everybody has looked, or the shares would overlap
    with _bar("pictures", missing, processes) as bar:
        for unit in processes.share(missing):
            images = draw(model, plan.suite, unit, edits)
            for item, image in zip(unit.items, images, strict=True):
                path = unit.picture(out, item)
                if not path.is_file():
                    write_bytes(path, png(to_pil(image)))
                bar.forward(1)
            check()
    processes.wait()


def draw(model: Model, suite: Pictures, unit: Unit, edits: Mapping[str, Edit]) -> Tensor:
    """A batch's pictures [b, 3, h, w] in [0, 1]."""
    denoiser, examiner, subject = model.denoiser, model.examiner, unit.variant.subject
    context, negative = denoiser.encode([item.prompt for item in unit.items]), denoiser.encode([""])
    if subject is not None and unit.variant.hidden:
        context = _with_prompts(suite, subject, unit, context)
    noise = seeded_noise(denoiser.latent_shape, [item.noise_seed(examiner.suite_seed) for item in unit.items])
    guidance = unit.items[0].guidance
    edit = None if subject is None else edits[subject.name]
    return examiner.draw_from(noise, context, negative, examiner.guidance if guidance is None else guidance, edit)


def _with_prompts(suite: Pictures, subject: Subject, unit: Unit, context: Context) -> Context:
    """Each picture's own hidden prompt, in the positive half of the guidance (`HiddenPrompt.join`)."""
    targets = [suite.target_of(subject, item) for item in unit.items]
    prompts = [subject.prompts[target] for target in targets if target is not None]
    rows = [p.extend(context[slice(i, i + 1)]) for i, p in enumerate(prompts)]
    return Context.cat(rows)


def score_pictures(
    plan: Plan, metrics: Sequence[Metric], out: Path, processes: Processes, check: Check
) -> dict[str, str]:
    """All scores that are not there yet; the metrics whose model is missing, each with what to do about it."""
    missing: dict[str, str] = {}
    for metric in metrics:
        units = [unit for unit in plan.units if _scores(metric, unit) and not unit.scores(out, metric.name).is_file()]
        processes.wait()
        if not units:
            continue
        try:
            scorer = metric.open()
        except ModelError as error:
            missing[metric.name] = str(error)
            continue
        with _bar(metric.name, units, processes) as bar:
            for unit in processes.share(units):
                write_tensors(unit.scores(out, metric.name), _score(metric, scorer, unit, out), {})
                bar.forward(len(unit.items))
                check()
        processes.wait()
    return missing


def _scores(metric: Metric, unit: Unit) -> bool:
    if metric.paired and unit.variant.subject is None:
        return False
    return metric.parts is None or any(item.part in metric.parts for item in unit.items)


def _score(metric: Metric, scorer: Scorer, unit: Unit, out: Path) -> dict[str, Tensor]:
    items = [item for item in unit.items if metric.parts is None or item.part in metric.parts]
    images = read_pictures([unit.picture(out, item) for item in items])
    untouched = None
    if metric.paired:
        first = Unit(Variant(), 0, unit.items)
        untouched = read_pictures([first.picture(out, item) for item in items])
    found = scorer(items, images, untouched)
    return found | {"index": torch.tensor([item.index for item in items])}


def read_pictures(paths: Sequence[Path]) -> Tensor:
    """[b, 3, h, w] in [0, 1]."""
    found = []
    for path in paths:
        with Image.open(path) as picture:
            found.append(to_tensor(picture))
    return torch.cat(found)


def _bar(name: str, units: Sequence[Unit], processes: Processes) -> Phase:
    """The main process shows its own share, which is as large as the others'."""
    total = sum(len(unit.items) for unit in processes.share(units))
    return Phase(name, total, "picture", shown=processes.is_main and total > 0)
