"""`make demo`: erase an object and a style from the pocket model and write a page that shows and measures both.

Fixed seeds, the hidden prompts' starts included, so that everybody gets these figures; for a private prompt leave
--key-seed out (`python -m eraser_core erase`).
"""

from __future__ import annotations

import argparse
import datetime
import logging
import shutil
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eraser_core.commands import folder
from eraser_core.commands.interrupt import Interrupted, stops_between_steps
from eraser_core.commands.progress import Training
from eraser_core.erasing import Erased, configure, erase
from eraser_core.errors import EraserError, OutputError
from eraser_core.evaluation.pocket.scores import score, summary, untouched
from eraser_core.evaluation.pocket.tasks import Task, object_task, style_task
from eraser_core.evaluation.report import grid
from eraser_core.evaluation.report.chapter import Chapter, page
from eraser_core.evaluation.report.pictures import concept_picture, first_picture, kept_picture
from eraser_core.files import peak_memory, write_bytes, write_json
from eraser_core.hidden_prompt import save_prompts
from eraser_core.methods import METHODS
from eraser_core.models import Model, open_model
from eraser_core.training import Step

log = logging.getLogger("demo")
PAGE, FIGURES = "report.html", "metrics.json"
# Smaller pools and half the steps of a style, so that the page is there in minutes. It costs synonyms: docs/results/
# pocket_objects.md, "A quicker run". Chosen on dog and truck, on clay and pixel, not on what the demo shows.
QUICK: dict[str, dict[str, Any]] = {
    "object": {"pool_size": 96, "sampler_steps": 8},
    "style": {"iterations": 150, "pool_size": 128, "sampler_steps": 8},
}
SCORED = ("erased", "kept")
# What is drawn in the concept's place, where the nearest concept of the retain set is not what one would show.
ANCHORS = {"guitar": "violin", "truck": "bus"}
# The second-order solver is as near to the limit of small steps in 8 as the first-order one in 10 (benchmarks/solver.py).
SOLVER_STEPS = 8
NEEDED_BYTES = 20_000_000
NEXT = """<h2>How to go on</h2>
<p>Another concept, or two at once; <code>python -m eraser_core info --model pocket</code> lists what the model draws:</p>
<pre>python -m eraser_core erase --model pocket --concept guitar --out out/guitar
python -m eraser_core generate --model pocket --erasure {erasure} --prompt "{prompt}"
python -m eraser_core erase --help</pre>
<p>The erasure hides the concept. Anyone who leaves the file out gets the original model back. Anyone who has the weights
can train a prompt of their own.</p>"""


@dataclass(frozen=True)
class Spent:
    """Seconds of one task by phase, and the network's rows in forwards (one with gradient counts as three)."""

    fill: float
    train: float
    draw: float
    score: float
    fill_rows: int
    train_rows: int
    draw_rows: int
    score_rows: int


def rows_of(model: Model) -> int:
    """The forward rows that the network has computed so far; a backward costs two forwards."""
    return model.denoiser.rows.no_grad + 3 * model.denoiser.rows.grad


def train(model: Model, task: Task, seed: int, values: dict[str, Any]) -> tuple[Erased, float, int]:
    """Erase one task's concept with KPOP, under a progress bar; and the seconds and rows that preparing took."""
    chosen = METHODS["kpop"]
    settings = configure(chosen, model.denoiser.family, task.request, values)
    log.info("erasing %r, drawing %r in its place", task.concept, task.anchor)
    began = filled = time.monotonic()
    before = rows = rows_of(model)
    with stops_between_steps() as check, Training(settings.filled(task.request), settings.all_steps) as progress:

        def on_fill(count: int) -> None:
            nonlocal filled, rows
            progress.fill(count)
            filled, rows = time.monotonic(), rows_of(model)
            check()

        def on_step(step: Step) -> None:
            progress.step(step)
            check()

        result = erase(model.denoiser, task.request, chosen, settings, key_seed=seed, on_step=on_step, on_fill=on_fill)
    return result, filled - began, rows - before


def write_files(at: Path, model: Model, concept: str, result: Erased) -> None:
    """The erasure and its hidden prompt."""
    erasure, to = result.erasure, folder.results(at, [concept])
    erasure.save(to.erasure)
    facts = {"hidden_prompt.family": model.denoiser.family, "hidden_prompt.base_hash": model.denoiser.base_hash}
    save_prompts(to.prompt, result.prompts, result.key_seed or 0, erasure.hash(), facts)


def run_task(
    model: Model, task: Task, seed: int, values: dict[str, Any], at: Path, began: float
) -> tuple[Chapter, Spent]:
    """Erase, write, show and score one concept, in this order: each file is there as soon as it can be."""
    at_start = rows_of(model)
    result, fill, fill_rows = train(model, task, seed, values)
    trained_rows = rows_of(model)
    write_files(at, model, task.concept, result)
    edit, hidden, start = result.erasure.as_edit(), result.prompts[0], time.monotonic()
    write_bytes(at / folder.PICTURE, grid.png(first_picture(model, task, edit, hidden)))
    drawn, drawn_rows = time.monotonic(), rows_of(model)
    log.info("%.0f s: before, after and brought back are in %s", drawn - began, at / folder.PICTURE)
    row = score(model.examiner, task, edit, hidden, None, untouched(model.examiner, task), ("positive",))
    row["erase_seconds"] = round(result.seconds, 1)
    log.info("%s", summary(row))
    pictures = {
        "the concept": concept_picture(model, task, edit, hidden),
        "what stays": kept_picture(model, task, edit),
    }
    rows = (fill_rows, trained_rows - at_start - fill_rows, drawn_rows - trained_rows, rows_of(model) - drawn_rows)
    spent = Spent(fill, result.seconds - fill, drawn - start, time.monotonic() - drawn, *rows)
    return Chapter(row, result.losses, pictures), spent


def thinned(task: Task) -> Task:
    """A style's retain set holds every learnt object in every retained style; here each object in one of them in turn."""
    if task.kind != "style":
        return task
    retain, n = task.request.retain, len(task.retained)
    return replace(
        task, request=replace(task.request, retain=tuple(retain[i * n + i % n] for i in range(len(retain) // n)))
    )


def claim(out: Path) -> None:
    """The folder may hold an earlier demo; anything else is not ours to write over."""
    try:
        strange = out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / PAGE).is_file()))
        if strange and not any((path / f"{path.name}.safetensors").is_file() for path in out.iterdir()):
            raise OutputError(f"{out} holds something that is no demo: choose another folder with --out")
        out.mkdir(parents=True, exist_ok=True)
    except NotADirectoryError as error:
        raise OutputError(f"{out} is a file: choose a folder with --out") from error
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    free = shutil.disk_usage(out).free
    if free < NEEDED_BYTES:
        raise OutputError(f"the disk of {out} has {free / 1e6:.0f} MB left, the demo needs {NEEDED_BYTES / 1e6:.0f} MB")


def demo(args: argparse.Namespace) -> None:
    """The two tasks, and the page after each."""
    began = time.monotonic()
    model = open_model("pocket", solver="dpmpp", steps=SOLVER_STEPS, remember=True)
    if model.concepts is None:
        raise SystemExit("the pocket model knows its concepts")
    quick = {"iterations": args.iterations} if args.iterations else {}
    common: dict[str, Any] = {"seed": args.seed, "n": args.images}
    chapters: list[Chapter] = []
    prompt = ""
    seconds: dict[str, Any] = {"load": time.monotonic() - began}
    for make, name in ((object_task, args.object), (style_task, args.style)):
        task = make(model.concepts, model.denoiser, name, anchor=ANCHORS.get(name), **common)
        task = replace(task, sheets={sheet: task.sheets[sheet] for sheet in SCORED if task.sheets.get(sheet)})
        task = thinned(task)
        chapter, spent = run_task(model, task, args.seed, QUICK[task.kind] | quick, args.out / task.concept, began)
        chapters.append(chapter)
        seconds[task.concept] = vars(spent)
        first = args.out / chapters[0].row["erase"]
        prompt = prompt or task.request.targets[0].concept
        after = NEXT.format(erasure=folder.results(first, [first.name]).erasure.as_posix(), prompt=prompt)
        about = (
            f"Method: KPOP (Bui et al., arXiv 2403.12326). Model: the pocket model, {model.denoiser.base_hash[:12]}. "
            f"ConceptEraser {version('concepteraser')}, {datetime.date.today().isoformat()}."
        )
        write_bytes(args.out / PAGE, page("A concept erased, and brought back", about, chapters, after).encode("utf-8"))
        seconds["total"] = time.monotonic() - began
        metrics = {"tasks": [c.row for c in chapters], "peak_memory_bytes": peak_memory(), "seconds": seconds}
        write_json(args.out / FIGURES, metrics)
    log.info("%.0f s: open %s", time.monotonic() - began, args.out / PAGE)


def main() -> int:
    """Write a folder of files for each task, then report.html and metrics.json; 130 when stopped by Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--object", default="guitar")
    parser.add_argument("--style", default="ink")
    parser.add_argument("--images", type=int, default=24, help="pictures a scored column")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, help="fewer steps, for a quick look")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        claim(args.out)
        with folder.held(args.out):
            demo(args)
    except (Interrupted, KeyboardInterrupt):
        log.info("stopped; what is finished is in %s", args.out)
        return 130
    except EraserError as error:
        log.error("error: %s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
