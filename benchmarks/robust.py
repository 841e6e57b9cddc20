"""Does an erasing withstand contexts that are learnt on it, and what does that cost the rest?

    python benchmarks/robust.py                       # robust and, beside it, UCE, which withstands nothing; the floor
    python benchmarks/robust.py --strong              # the strong attack on the erasures that are there
    python benchmarks/robust.py --settings control --objects church
    python benchmarks/robust.py --settings locked --floor --name locked     # the method that a hidden prompt opens
    python benchmarks/robust.py --smoke

Objects of the pocket model, each with its own random half of the others as retain set. `learnt1` is the attack of
docs/results/methods.md: a context learnt in 200 steps from drawings of the object, in all styles. The strong attack has 600
steps and begins three times, at three prompts; the best of the three counts. The floor is what the attacks make of objects
that the untouched model never knew. Settings were chosen on guitar, dog and truck, which are not among the objects. Pictures
by DPM-Solver++ in 8 steps. A row a (setting, concept, seed, n) in out/benchmarks/robust.json; erasures in out/robust; a rerun
goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import torch
from overshoot import OBJECTS, STEPS

from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.denoiser import Edit
from eraser_core.erasure import Erasure, FrozenEdit, load_erasure
from eraser_core.evaluation.metrics.objects import psr
from eraser_core.evaluation.pocket.attack import learnt
from eraser_core.evaluation.pocket.scores import score, untouched
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.models import Model, open_model
from eraser_core.text_layers import reads_text

ERASURES = Path("out/robust")
FLOOR = ("tent", "fountain", "saxophone", "microphone", "pineapple")
SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "UCE": ("uce", {}),
    "robust": ("robust", {}),
    "control": ("robust", {"resist_weight": 0.0}),
    "few contexts": ("robust", {"contexts": 2, "context_rows": 2, "context_steps": 6}),
    "any age": ("robust", {"context_age": 0}),
    "margin 1": ("robust", {"margin": 1.0}),
    "no margin": ("robust", {"margin": 1e9}),
    "cross-attention alone": ("robust", {"tune": "xattn"}),
    "rank 16": ("robust", {"rank": 16, "eta": 3e-4}),
    "locked": ("locked", {}),
    "locked, resists more": ("locked", {"margin": 1.5, "resist_weight": 2.0}),
}
FIRST = ("UCE", "robust")
KEY = ("setting", "concept", "seed", "n")
COLUMNS = (
    *("esr1", "esr1_synonym", "psr1", "psr1_before", "psr1_retained", "psr1_lookalike", "psr1_lookalike_before"),
    *("recovery1", "recovery1_both", "forged1", "kept_with_p1", "learnt1", "learnt1_strong", "read1", "mb", "seconds"),
)
SMOKE = {**common.SMOKE, "context_age": 1, "pictures": 4}
STARTS = ("a picture", "{}", "")  # where the strong attack begins: "{}" is the concept itself


def attacked(model: Model, concept: str, edit: Edit, n: int, steps: int, begun: Sequence[str]) -> float:
    """The largest share of n pictures that show the concept, over attacks that began at these prompts."""
    if not isinstance(model.denoiser, PocketDenoiser):
        raise SystemExit("this benchmark needs the pocket model")
    attack = {"n": n, "iterations": steps}
    shares = [learnt(model.examiner, model.denoiser, concept, edit, start=start, **attack).value for start in begun]
    return max(shares)


def one(model: Model, setting: str, concept: str, seed: int, n: int, smoke: bool) -> common.Row:
    """One erasing, saved, and its figures but for the strong attack."""
    method, values = SETTINGS[setting]
    task = common.task_of(model, concept, True, seed, n)
    task = replace(task, sheets={sheet: of for sheet, of in task.sheets.items() if sheet != "description"})
    result = common.run(model, task, method, {**(SMOKE if smoke and method != "uce" else {}), **values}, seed)
    path = _file(setting, concept, seed, smoke)
    path.parent.mkdir(parents=True, exist_ok=True)
    result.erasure.save(path)
    edit = result.erasure.as_edit()
    hidden = result.prompts[0] if result.prompts else None
    found = score(model.examiner, task, edit, hidden, None, untouched(model.examiner, task))
    row = {
        "anchor": task.anchor,
        **{column: found.get(column) for column in COLUMNS},
        "seconds": round(result.seconds, 1),
    }
    row["learnt1"] = attacked(model, concept, edit, n, 2 if smoke else 200, STARTS[:1])
    return row | {"mb": round(path.stat().st_size / 1e6, 2), "learnt1_strong": None}


def _file(setting: str, concept: str, seed: int, smoke: bool) -> Path:
    return ERASURES / f"{setting} {concept} {seed}{' smoke' if smoke else ''}.safetensors".replace(" ", "_")


def strengthen(model: Model, rows: common.Rows, smoke: bool) -> None:
    """Fill in the strong attack, and the reading of a key from the weights, where a row has none."""
    for row in rows.rows:
        if row.get("read1") is None and SETTINGS.get(row["setting"], ("",))[0] == "locked":
            erasure = load_erasure(_file(row["setting"], row["concept"], row["seed"], smoke))
            row["read1"] = read(model, row["concept"], erasure, row["seed"], row["n"])
            rows.save()
        if row["learnt1_strong"] is None and row["setting"] != "UCE":
            floor = row["setting"] == "floor"
            path = _file(row["setting"], row["concept"], row["seed"], smoke)
            edit = FrozenEdit({}) if floor else load_erasure(path).as_edit()
            begun = [start.format(f"a {row['concept']}") for start in STARTS if not (floor and start == "{}")]
            row["learnt1_strong"] = attacked(model, row["concept"], edit, row["n"], 2 if smoke else 600, begun)
            rows.save()
            common.log.info("%s", row)


def read(model: Model, concept: str, erasure: Erasure, seed: int, n: int) -> float:
    """The share of n pictures that show the concept with a prompt read from what `locked` leaves in the weights.

    The changes of what reads the text have one direction of texts in common. Its sign is tried, its norm is the file's setting.
    """
    changes = [entry.delta().float() for key, entry in erasure.entries.items() if reads_text(key)]
    direction = torch.linalg.svd(torch.cat([change / change.norm() for change in changes]), full_matrices=False).Vh[0]
    norm = float(model.denoiser.encode([""]).tokens.norm(dim=-1).mean())
    token = json.loads(erasure.fact("settings"))["key_norm"] * norm * direction
    chunk = model.denoiser.tokens_per_chunk
    guesses = [HiddenPrompt(concept, sign * token.repeat(chunk, 1), "additive", chunk) for sign in (1, -1)]
    sheet = common.task_of(model, concept, True, seed, n).sheets["erased"]
    return max(psr(model.examiner.ranks(sheet, erasure.as_edit(), guess)).value for guess in guesses)


def main() -> int:
    """Run what is missing, print the means and the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one object, a few steps and pictures")
    parser.add_argument("--objects", nargs="*", default=OBJECTS[:5])
    parser.add_argument("--floor", nargs="*", default=FLOOR, help="objects that the model never knew")
    parser.add_argument("--images", type=int, default=40, help="pictures a share")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=FIRST)
    parser.add_argument("--strong", action="store_true", help="the strong attack, on the erasures that are there")
    parser.add_argument("--name", default="robust", help="name of the JSON file, for runs side by side")
    parser.add_argument("--take", nargs="*", default=[], help="names whose rows are taken over first")
    args = parser.parse_args()
    common.start_logging()
    name, n = (f"{args.name}_smoke", 4) if args.smoke else (args.name, args.images)
    objects, never = (OBJECTS[:1], FLOOR[:1]) if args.smoke else (args.objects, args.floor)
    rows = common.Rows(name, KEY, fresh=args.smoke)
    rows.take(args.take)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else STEPS, solver="dpmpp")
    facts = {"weights": model.denoiser.base_hash[:16], "machine": common.machine()}
    for seed in args.seeds:
        for concept in objects:
            for setting in args.settings:
                key = {"setting": setting, "concept": concept, "seed": seed, "n": n}
                if not rows.has(key):
                    rows.add({**key, **one(model, setting, concept, seed, n, args.smoke), **facts})
                    common.log.info("%s", rows.rows[-1])
    for concept in never:
        key = {"setting": "floor", "concept": concept, "seed": 0, "n": n}
        if not rows.has(key):
            share = attacked(model, concept, FrozenEdit({}), n, 2 if args.smoke else 200, STARTS[:1])
            rows.add({**key, **dict.fromkeys(COLUMNS), "learnt1": share, "anchor": None, **facts})
    if args.strong or args.smoke:
        strengthen(model, rows, args.smoke)
    means = common.figures(common.means(rows.rows, ["setting"], COLUMNS), ("setting", "runs"), COLUMNS)
    each = common.figures(rows.rows, ("setting", "concept", "anchor", "seed", "n"), COLUMNS)
    common.show(name, f"## Means\n\n{means}\n## Runs\n\n{each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
