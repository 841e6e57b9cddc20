"""The slides' tables and figures on the pocket model, by one command: erases, draws, scores, writes the page's tables.

    python benchmarks/results.py                      # everything; goes on where it was interrupted
    python benchmarks/results.py --groups objects     # objects, category, style, prompt, lambda
    python benchmarks/results.py --score-only         # the erasures that are there, making none
    python benchmarks/results.py --objects church truck --images 12 --classes 10      # a smaller one
    python benchmarks/results.py --smoke              # the same code, a few steps and pictures

Five objects, the category "animal" and the style "ink" are each erased by the slides' four systems, and the objects
also by KPOP with other prompts and other lambda. Erasures lie in out/results/erasures/, then `benchmark pocket` scores
them in out/results/pocket/: report.html, tables.md (what docs/results.md holds) and tables.json. The prompt's learning
process (slides, figure 6a) is out/results/learning.svg.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common

from eraser_core.__main__ import main as command
from eraser_core.commands.folder import CHECKPOINT, METRICS, results
from eraser_core.evaluation.report.plots import losses
from eraser_core.files import write_bytes, write_json

OUT = Path("out/results")
OBJECTS = ("church", "guitar", "truck", "dog", "camera")
SYSTEMS = ("esd", "ca", "uce", "kpop")


@dataclass(frozen=True)
class Erasing:
    """One erasure: its group of rows, its name there, what is erased by which method with which settings."""

    group: str
    name: str
    concepts: tuple[str, ...]
    method: str = "kpop"
    values: Mapping[str, str] = field(default_factory=dict)

    def folder(self, out: Path) -> Path:
        return out / "erasures" / self.group / self.name


STEPS = {"esd": 200, "ca": 200, "kpop": 100}  # of the pocket's presets, which are for one concept
STYLE = {"iterations": "300", "pool-size": "512"}
PUBLISHED = {"kpop": {"overshoot": "0", "confine": "0"}}


def erasings(objects: tuple[str, ...]) -> tuple[Erasing, ...]:
    """Every erasure of the page; the objects are erased together, with as many steps as one by one."""
    steps = {
        m: {"iterations": str(count * len(objects)), "start": "model", "confine": "0"} for m, count in STEPS.items()
    }
    kpop = steps["kpop"]
    return (
        *(Erasing("objects", m, objects, m, steps.get(m, {})) for m in SYSTEMS),
        *(Erasing("category", f"{m} animal", ("animal",), m, PUBLISHED.get(m, {})) for m in SYSTEMS),
        *(
            Erasing("style", f"{m} ink", ("ink",), m, {} if m == "uce" else {**STYLE, **PUBLISHED.get(m, {})})
            for m in SYSTEMS
        ),
        Erasing("prompt", "kpop additive", objects, values=kpop | {"mechanism": "additive"}),
        *(Erasing("prompt", f"kpop k={k}", objects, values=kpop | {"k": str(k)}) for k in (1, 10, 100, 200)),
        *(Erasing("lambda", f"kpop lambda={v}", objects, values=kpop | {"lambda": v}) for v in ("0.03", "1", "3")),
    )


def there(erasing: Erasing, out: Path) -> bool:
    """Whether the erasure is finished."""
    folder = erasing.folder(out)
    return results(folder, erasing.concepts).erasure.is_file() and not (folder / CHECKPOINT).is_file()


def learning_process(erasings: Sequence[Erasing], out: Path) -> None:
    """The losses of the first KPOP erasing over its steps: `transfer` is p's own (eq. 6)."""
    found = [e.folder(out) / METRICS for e in erasings if e.method == "kpop"]
    if found and found[0].is_file():  # a run stopped after its erasure was saved has none
        metrics = json.loads(found[0].read_text(encoding="utf-8"))
        write_bytes(out / "learning.svg", losses(metrics["losses"]).encode("utf-8"))


def erase(erasing: Erasing, out: Path, quick: Mapping[str, str], steps: int | None) -> int:
    """Make an erasure that is not there yet, going on with an interrupted one; the command's exit status.

    `steps` are those of its before and after pictures.
    """
    folder = erasing.folder(out)
    if there(erasing, out):
        return 0
    if (folder / CHECKPOINT).is_file():
        return command(["erase", "--resume", str(folder), "--device", common.device()])
    words = ["erase", "--model", "pocket", "--method", erasing.method, "--out", str(folder), "--images", "0", "--force"]
    words += ["--device", common.device()]
    words += [word for concept in erasing.concepts for word in ("--concept", concept)] + ["--key-seed", "0"]
    words += ["--steps", str(steps)] if steps else []
    values = {**erasing.values, **({} if erasing.method == "uce" else quick)}
    return command(words + [word for name, value in values.items() for word in (f"--{name}", value)])


def score(erasings: Sequence[Erasing], args: argparse.Namespace) -> int:
    """One run of the pocket suite over all of them."""
    words = ["benchmark", "pocket", "--out", str(args.out / "pocket"), "--images", str(args.images)]
    words += ["--device", common.device()]
    words += ["--force"]  # an erasure that was made again is drawn again; the others' pictures stay
    words += ["--classes", str(args.classes)] + (["--steps", str(args.steps)] if args.steps else [])
    for erasing in erasings:
        files = results(erasing.folder(args.out), erasing.concepts)
        words += ["--erasure", str(files.erasure)]
        if files.prompt.is_file():
            words += ["--hidden-prompt", str(files.prompt)]
    return command(words)


def flat(path: Path) -> list[common.Row]:
    """Every row of every table as one flat object: figures without their intervals, which tables.json has."""

    def number(cell: Any) -> Any:
        return cell.get("value", cell["text"]) if isinstance(cell, dict) else cell

    tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    return [
        {"table": t["title"], "row": r["name"], "quoted": r["quoted"], **{c: number(x) for c, x in r["cells"].items()}}
        for t in tables
        for r in t["rows"]
    ]


def main() -> int:
    """Erase what is missing, score, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--groups", nargs="*", help="groups of rows (default: all)")
    parser.add_argument("--names", nargs="*", help="rows of these groups by their names, such as kpop (default: all)")
    parser.add_argument("--objects", nargs="*", default=OBJECTS, help="objects, erased together")
    parser.add_argument("--images", type=int, default=16, help="pictures a class")
    parser.add_argument("--classes", type=int, default=20, help="kept objects that are asked for")
    parser.add_argument("--steps", type=int, help="sampling steps of the pictures (default: the model's)")
    parser.add_argument("--erase-only", action="store_true", help="make the erasures and stop")
    parser.add_argument("--score-only", action="store_true", help="score the erasures that are there and make none")
    parser.add_argument("--smoke", action="store_true", help="two erasures, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    every = erasings(tuple(args.objects))
    chosen = [e for e in every if not args.groups or e.group in args.groups]
    chosen = [e for e in chosen if not args.names or e.name in args.names]
    quick: dict[str, str] = {}
    if args.smoke:
        chosen = [e for e in every if e.name in ("uce", "kpop")]
        args.images, args.classes, args.steps, args.out = 1, 2, 2, Path("out/results_smoke")
        quick = {name.replace("_", "-"): str(value) for name, value in common.SMOKE.items()}
    if args.score_only:
        chosen = [e for e in chosen if there(e, args.out)]
    for erasing in chosen:
        status = erase(erasing, args.out, quick, args.steps)
        if status:
            return status
    learning_process(chosen, args.out)
    if args.erase_only:
        return 0
    status = score(chosen, args)
    if status == 0:
        write_json(common.OUT / f"{args.out.name}.json", flat(args.out / "pocket" / "tables.json"))
        sys.stdout.write((args.out / "pocket" / "tables.md").read_text(encoding="utf-8"))
    return status


if __name__ == "__main__":
    sys.exit(main())
