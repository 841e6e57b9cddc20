"""The commands that are killed, each with a run of a few seconds. Another one is one line in `cases`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import judge
from killing import Case, Server

from eraser_core.commands import folder
from eraser_core.erasure import load_erasure
from eraser_core.evaluation.report.sidecar import SCHEMA, sidecar_of
from eraser_core.files import write_json
from eraser_core.sharing.card import Wishes
from eraser_core.sharing.share import share

BEGIN = ["erase", "--concept", "church", "--anchor", "castle", "--no-check", "--key-seed", "1", "--images", "0"]
BEGIN += ["--batch", "1", "--pool-size", "4", "--per-trajectory", "2", "--sampler-steps", "2", "--steps", "2"]
OTHER = ["guitar" if w == "church" else "trumpet" if w == "castle" else w for w in BEGIN]
LONG, SHORT = ["--iterations", "6"], ["--iterations", "2"]
UCE = [
    "erase",
    "--concept",
    "church",
    "--anchor",
    "castle",
    "--method",
    "uce",
    "--no-check",
    "--images",
    "0",
    "--force",
]
TRAIN: dict[str, Any] = {"concepts": "church", "anchor": "a castle", "retain": "", "steps": 4, "tune": "xattn-kv"}
TRAIN |= {"rank": -1, "seed": 0, "key_seed": 7, "width": 0, "height": 0, "batch": 1, "precision": "fp16"}
TRAIN |= {"compute": "auto", "filename_prefix": "loras/erased", "memory": "normal"}
TRAIN |= {"method": ["kpop", {"pool_size": 4, "per_trajectory": 2, "sampler_steps": 2}]}
WRITES = ("begun", "half", "written", "named")
CHECKPOINT = [("checkpoint", when) for when in (*WRITES, "removed")]
ERASING = [(file, when) for file in ("church.safe", "church_hidden") for when in WRITES] + [("metrics", "half")]
FIGURES = [("before_after", "removed"), ("metrics", "removed"), ("guitar.safe", "removed")]
FIGURES += [("guitar_hidden", "removed"), ("guitar.evaluation", "removed")]
RUN = [("run.json", when) for when in WRITES]


class Makings:
    """What the runs start from, made once: an earlier result, an interrupted run, a checkpoint file and its erasure."""

    def __init__(self, server: Server, where: Path) -> None:
        self.earlier, self.halted = where / "earlier", where / "halted"
        self.model, self.fitting = where / "model.safetensors", where / "fitting"
        _must(server, [*OTHER, *SHORT, "--images", "1", "--out", str(self.earlier)])
        erasure = folder.results(self.earlier, ["guitar"]).erasure
        figures = {"schema": SCHEMA, "erasure_hash": load_erasure(erasure).hash(), "suites": {}}
        write_json(sidecar_of(erasure), figures)
        words = [*BEGIN, *LONG, "--out", str(self.halted)]
        server.run(words, {"file": "checkpoint", "when": "named", "do": "SIGKILL"})

    def with_model(self, server: Server) -> Makings:
        """For `merge`."""
        from tiny_checkpoints import write_checkpoint

        write_checkpoint(self.model, "sd1")
        words = ["erase", "--model", str(self.model), "--size", "64", *BEGIN[1:], *SHORT, "--eta", "0.05"]
        _must(server, [*words, "--out", str(self.fitting)])
        return self


def _must(server: Server, words: list[str]) -> None:
    ended = server.run(words)
    if ended.code:
        raise RuntimeError(ended.said)


def _copy(source: Path) -> Callable[[Path], None]:
    return lambda where: shutil.copytree(source, where) and None


def _erasing(words: list[str]) -> tuple[Callable[[Path], list[str]], Callable[[Path], list[str] | None]]:
    """How a run begins, and how it goes on: from its checkpoint, or with the same command where there is none yet."""

    def begin(where: Path) -> list[str]:
        return [*words, "--out", str(where)]

    def again(where: Path) -> list[str] | None:
        if (where / folder.CHECKPOINT).is_file():
            return ["erase", "--resume", str(where)]
        new = not folder.results(where, ["church"]).erasure.is_file()
        return begin(where) if new or "--force" in words else None

    return begin, again


def cases(made: Makings) -> list[Case]:
    """All of the engine's."""
    earlier, fitting = folder.results(made.earlier, ["guitar"]), folder.results(made.fitting, ["church"])
    sources = ["--erasure", str(earlier.erasure), "--hidden-prompt", str(earlier.prompt)]
    compare = ["benchmark", "pocket", *sources, "--images", "1", "--steps", "2", "--maps", "0", "--batch", "1"]
    merging = ["merge", "--model", str(made.model), "--erasure", str(fitting.erasure), "--force", "--out"]

    def benchmark(name: str, words: list[str]) -> Case:
        def begin(where: Path) -> list[str]:
            return [*compare, *words, "--out", str(where)]

        points = [("manifest", "half"), ("0", "half"), ("0", "written"), ("tables", "half"), ("report", "half")]
        return Case(name, begin, begin, judge.of_benchmark, lost=judge.lost_from_benchmark, points=points)

    def merge(where: Path) -> list[str]:
        return [*merging, str(where / "merged.safetensors")]

    erase = Case("erase", *_erasing([*BEGIN, *LONG]), judge.of_erasing, points=[*RUN, *CHECKPOINT, *ERASING])
    resume = replace(erase, name="erase --resume", begin=lambda where: ["erase", "--resume", str(where)])
    resume = replace(resume, prepare=_copy(made.halted), lost=judge.lost_from_erasing, points=ERASING)
    over = {"prepare": _copy(made.earlier), "lost": judge.lost_from_erasing}
    forced = Case("erase --force", *_erasing([*BEGIN, *LONG, "--force"]), judge.of_erasing, **over)
    closed = Case("erase --force, closed form", *_erasing(UCE), judge.of_erasing, **over)
    merged = Case("merge", merge, merge, judge.of_files, points=[("merged", when) for when in WRITES])

    def old_merge(where: Path) -> None:
        where.mkdir()
        shutil.copy(made.model, where / "merged.safetensors")

    return [
        erase,
        resume,
        replace(forced, points=[*RUN, *CHECKPOINT, *ERASING, *FIGURES]),
        replace(closed, points=[*ERASING[:4], ("metrics", "half"), *FIGURES]),
        benchmark("benchmark", ["--classes", "1"]),
        merged,
        replace(merged, name="merge --force", prepare=old_merge),
        *sharing(earlier.erasure),
    ]


def sharing(erasure: Path) -> list[Case]:
    """`share` into a free folder, and over an earlier one with another card."""

    def begin(where: Path) -> list[str]:
        return ["share", str(erasure), "--author", "new", "--force", "--out", str(where / judge.SHARED)]

    def earlier(where: Path) -> None:
        where.mkdir()
        share(erasure, where / judge.SHARED, Wishes(author="old"))

    points = [("README", when) for when in WRITES] + [(erasure.stem, "half"), ("before_after", "half")]
    fresh = Case("share", begin, begin, judge.of_share, lost=judge.lost_from_share)
    over = [*points, ("README", "removed"), ("before_after", "removed")]
    return [
        replace(fresh, points=[*points, (judge.SHARED, "written"), (judge.SHARED, "named")]),
        replace(fresh, name="share --force", prepare=earlier, points=over),
    ]


def training(base: Path) -> Case:
    """*Train Concept Eraser*: its files go to the host's output folder, which `base` holds."""
    output = base / "output"

    def clean(where: Path) -> None:
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()

    def again(_: Path) -> Any | None:
        return None if any((output / "loras").glob("*.safetensors")) else TRAIN

    def result(where: Path) -> dict[str, str]:
        """Every erasure with the hidden prompt of its name; two runs that give the same count once."""
        keys = judge.tensors((where / "hidden_prompts").glob("*.safetensors"))
        saved = judge.tensors((where / "loras").glob("*.safetensors"))
        return {f"{found} {keys.get(name)}": "" for name, found in saved.items()}

    points = [("erased", when) for when in WRITES]
    return Case("a node's training", lambda _: TRAIN, again, result, clean, points=points, place=output, abrupt=True)
