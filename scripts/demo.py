"""`make demo`: erase an object and a style from the pocket model and write a page that shows and measures both.

Fixed seeds, the hidden prompts' starts included, so that everybody gets these figures; for a private prompt leave
--key-seed out (`python -m eraser_core erase`).
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eraser_core.denoiser import Edit
from eraser_core.erasing import Erased, configure, erase
from eraser_core.evaluation.pocket.scores import score, summary, untouched
from eraser_core.evaluation.pocket.tasks import Task, object_task, settings_for, style_task
from eraser_core.evaluation.report import grid
from eraser_core.evaluation.report.demo import Chapter, before_after, concept_picture, kept_picture, page
from eraser_core.files import peak_memory, write_bytes, write_json
from eraser_core.hidden_prompt import HiddenPrompt, save_prompts
from eraser_core.methods import METHODS
from eraser_core.models import Model, open_model
from eraser_core.training import Step

log = logging.getLogger("demo")
NEXT = """<h2>How to go on</h2>
<p>Another concept, or two at once; <code>python -m eraser_core info --model pocket</code> lists what the model draws:</p>
<pre>python -m eraser_core erase --model pocket --concept guitar --out out/guitar
python -m eraser_core generate --model pocket --erasure out/demo/church/erasure.safetensors --prompt "a church"
python -m eraser_core erase --help</pre>
<p>The hidden prompt is reversibility and proof, not a lock: whoever leaves the erasure file out has the original model,
and whoever has the weights can train a prompt of their own.</p>"""


@dataclass(frozen=True)
class Done:
    """A task and what erasing it gave."""

    task: Task
    result: Erased

    @property
    def hidden(self) -> HiddenPrompt:
        return self.result.prompts[0]


def run_task(model: Model, task: Task, seed: int, values: dict[str, Any]) -> Done:
    """Erase one task's concept with KPOP, under a progress bar."""
    chosen = METHODS["kpop"]
    values = {**settings_for([task], chosen.settings.model_fields), **values}
    settings = configure(chosen, model.denoiser.family, task.request, values)
    log.info("erasing %r, drawing %r in its place", task.concept, task.anchor)
    with tqdm(total=settings.iterations, unit="step", dynamic_ncols=True) as bar:

        def report(step: Step) -> None:
            bar.n = step.step
            bar.set_postfix({name: f"{loss:.4f}" for name, loss in step.losses.items()})

        result = erase(model.denoiser, task.request, chosen, settings, key_seed=seed, on_step=report)
    return Done(task, result)


def write_files(out: Path, model: Model, done: Done) -> None:
    """The erasure and its hidden prompt, in a folder of their own."""
    folder, erasure = out / done.task.concept, done.result.erasure
    erasure.save(folder / "erasure.safetensors")
    facts = {"hidden_prompt.family": model.denoiser.family, "hidden_prompt.base_hash": model.denoiser.base_hash}
    key_seed = done.result.key_seed or 0
    save_prompts(folder / "hidden_prompt.safetensors", done.result.prompts, key_seed, erasure.hash(), facts)


def chapter(model: Model, done: Done, other: HiddenPrompt) -> Chapter:
    """Figures and pictures of one task; `other` is the other task's hidden prompt."""
    task, edit = done.task, done.result.erasure.as_edit()
    row = score(model.examiner, task, edit, done.hidden, other, untouched(model.examiner, task))
    row["erase_seconds"] = round(done.result.seconds, 1)
    log.info("%s", summary(row))
    return Chapter(row, done.result.losses, _pictures(model, task, edit, done.hidden, other))


def _pictures(model: Model, task: Task, edit: Edit, hidden: HiddenPrompt, other: HiddenPrompt) -> dict[str, Any]:
    titles = {"kept": "others, not in the retain set", "look_alike": "look-alikes", "retained": "retained"}
    pictures = {"the concept": concept_picture(model, task, edit, hidden, other)}
    for sheet, title in titles.items():
        if task.sheets.get(sheet):
            pictures[title] = kept_picture(model, task, edit, sheet, 4)
    return pictures


def main() -> int:
    """Write report.html, before_after.png and metrics.json into the folder, and a folder of files for each task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--object", default="church")
    parser.add_argument("--style", default="ink")
    parser.add_argument("--images", type=int, default=24, help="pictures a scored column")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, help="fewer steps, for a quick look")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    model = open_model("pocket")
    if model.concepts is None:
        raise SystemExit("the pocket model knows its concepts")
    quick = {"iterations": args.iterations} if args.iterations else {}
    common: dict[str, Any] = {"seed": args.seed, "n": args.images}
    tasks = [
        object_task(model.concepts, model.denoiser, args.object, **common),
        style_task(model.concepts, model.denoiser, args.style, **common),
    ]
    done = [run_task(model, task, args.seed, quick) for task in tasks]
    chapters = [chapter(model, done[i], done[1 - i].hidden) for i in range(2)]
    for each in done:
        write_files(args.out, model, each)
    write_bytes(
        args.out / "before_after.png", grid.png(before_after(model, done[0].result.erasure, done[0].result.prompts))
    )
    write_bytes(args.out / "report.html", page("A concept erased, and brought back", chapters, NEXT).encode("utf-8"))
    metrics = {"tasks": [c.row for c in chapters], "peak_memory_bytes": peak_memory()}
    write_json(args.out / "metrics.json", metrics)
    log.info("open %s", args.out / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
