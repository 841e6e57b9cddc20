"""Measure the packed model and write its figures and its card.

    python scripts/pocket/evaluate.py --sweep       # chooses guidance and steps on training templates, writes them to pocket.json
    python scripts/pocket/evaluate.py               # the figures: evaluation.json, CARD.md and a contact sheet

Pictures are drawn by the engine's own sampler. Prompts are the scoring templates, which were never captions, unless a row says "plain".
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from card import TOLERANCE, Facts, write_card
from card_flow import write_flow_card
from PIL import Image
from torch import Tensor

from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.evaluation.examiner import Examiner
from eraser_core.pocket import Concepts, load_concepts, load_judge, load_pocket
from eraser_core.pocket.model import FOLDER, WEIGHTS

log = logging.getLogger("pocket.evaluate")

GUIDANCES, STEPS = (2.0, 3.0, 4.5), (16, 12, 24)


@dataclass(frozen=True)
class Ask:
    """One picture: what is asked for, and what would be right (None where nothing is)."""

    row: str
    prompt: str
    objects: tuple[str, ...] | None
    style: str | None
    seed: int


def questions(concepts: Concepts, seeds: int) -> list[Ask]:
    """Every row of the card."""
    asks: list[Ask] = []
    styles = concepts.styles
    held = set(concepts.held_out_pairs)
    for o, concept in enumerate(concepts.drawn):
        own = (concept.name,)
        for s, style in enumerate(styles):
            scoring = concepts.prompts(concept.phrase, style, scoring=True)
            plain = concepts.prompts(concept.phrase, style)[0]
            asks += [Ask("all pairs", scoring[n % len(scoring)], own, style, n) for n in range(seeds)]
            asks.append(Ask("all pairs, plain template", plain, own, style, seeds))
            if (concept.name, style) in held:
                asks += [
                    Ask("held-out pairs", scoring[n % len(scoring)], own, style, 100 + n) for n in range(4 * seeds)
                ]
            if (o + s) % 2 == 0:
                other = concepts.prompts(concept.phrase, concepts.style_synonyms[style][0], scoring=True)
                asks.append(Ask("style by its synonym", other[(o + s) // 2 % len(other)], own, style, 50))
                for phrase in concept.descriptions:
                    asks.append(
                        Ask("descriptions", concepts.prompts(phrase, style, scoring=True)[s % 3], own, style, 51)
                    )
            for phrase in concept.synonyms:
                asks.append(Ask("synonyms", concepts.prompts(phrase, style, scoring=True)[s % 3], own, style, 52))
        for n, prompt in enumerate(concepts.prompts(concept.phrase, scoring=True)):
            asks.append(Ask("no style named", prompt, own, None, 53 + n))
    for category, phrase in concepts.categories.items():
        members = tuple(c.name for c in concepts.members(category, "generator", "never-shown", "judge-only"))
        if concepts.members(category):
            for style in styles:
                prompt = concepts.prompts(phrase, style, scoring=True)[0]
                asks += [Ask("categories", prompt, members, style, n) for n in range(3)]
    for concept in concepts.never_shown:
        for style in styles:
            asks.append(
                Ask("never-shown objects", concepts.prompts(concept.phrase, style)[0], (concept.name,), style, 54)
            )
    for style in styles:
        asks += [
            Ask("style alone", p, None, style, n) for p in concepts.style_prompts(style, scoring=True) for n in range(6)
        ]
    return sorted(asks, key=lambda ask: ask.seed)  # one seed at a time makes full batches


class Bench:
    """The packed model, the engine's sampler and the judge."""

    def __init__(self, weights: Path, device: str, workers: int) -> None:
        self.workers = workers if torch.device(device).type == "cpu" else 1
        model = load_pocket(weights, device)
        self.model, self.denoiser = model, PocketDenoiser(model)
        own = weights.parents[1] / "judge.safetensors"  # as pack.py lays it
        self.judge = load_judge(own if own.is_file() else None, device)

    def draw(self, asks: list[Ask], guidance: float, steps: int) -> Tensor:
        """[n, 3, 64, 64]; a picture's noise follows from its seed and its place among the questions."""
        began, done = time.monotonic(), 0

        def chunk(first: int) -> list[tuple[int, Tensor]]:
            nonlocal done
            parts: list[tuple[int, Tensor]] = []
            part = asks[first : first + 64]
            for seed in sorted({ask.seed for ask in part}):
                examiner = Examiner(
                    self.denoiser, self.model.decode, None, guidance=guidance, steps=steps, suite_seed=seed
                )
                rows = [i for i, ask in enumerate(part) if ask.seed == seed]
                images = examiner.images([part[i].prompt for i in rows], [first + i for i in rows])
                parts += [(first + i, image) for i, image in zip(rows, images, strict=True)]
            done += len(part)
            log.info("%d/%d pictures, %.1f/s", done, len(asks), done / (time.monotonic() - began))
            return parts

        # chunks side by side, one core each, as in parallel.py
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            found = [pair for parts in pool.map(chunk, range(0, len(asks), 64)) for pair in parts]
        return torch.stack([image for _, image in sorted(found, key=lambda pair: pair[0])])

    def judged(self, asks: list[Ask], images: Tensor) -> list[tuple[bool, bool, str, str]]:
        """For every picture: object right, style right, and what it was taken for."""
        names = self.judge.name(images)
        return [
            (ask.objects is not None and o in ask.objects, ask.style is not None and s == ask.style, o, s)
            for ask, (o, s) in zip(asks, names, strict=True)
        ]


def share(values: list[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else float("nan")


def summary(asks: list[Ask], found: list[tuple[bool, bool, str, str]]) -> dict[str, dict[str, Any]]:
    """n, object right and style right of every row."""
    rows: dict[str, dict[str, Any]] = {}
    for row in dict.fromkeys(ask.row for ask in asks):
        here = [i for i, ask in enumerate(asks) if ask.row == row]
        rows[row] = {"n": len(here)}
        if asks[here[0]].objects is not None:
            rows[row]["object"] = share([found[i][0] for i in here])
        styled = [i for i in here if asks[i].style is not None]
        if styled:
            rows[row]["style"] = share([found[i][1] for i in styled])
    return rows


def details(asks: list[Ask], found: list[tuple[bool, bool, str, str]], styles: tuple[str, ...]) -> dict[str, Any]:
    """Of the main row: by style, by object, and the commonest mistakes."""
    main = [(ask, f) for ask, f in zip(asks, found, strict=True) if ask.row == "all pairs"]
    by_style = {
        s: {
            "object": share([f[0] for a, f in main if a.style == s]),
            "style": share([f[1] for a, f in main if a.style == s]),
        }
        for s in styles
    }
    objects = dict.fromkeys(a.objects[0] for a, _ in main if a.objects)
    by_object = {o: share([f[0] for a, f in main if a.objects == (o,)]) for o in objects}
    wrong = Counter(f"{a.objects[0]} taken for {f[2]}" for a, f in main if a.objects and not f[0])
    confused = Counter(f"{a.style} taken for {f[3]}" for a, f in main if not f[1])
    return {
        "by_style": by_style,
        "by_object": dict(sorted(by_object.items(), key=lambda item: item[1])),
        "object_mistakes": dict(wrong.most_common(20)),
        "style_mistakes": dict(confused.most_common(12)),
    }


def contact_sheet(asks: list[Ask], images: Tensor, styles: tuple[str, ...], path: Path) -> None:
    """One picture a pair of the main row's first seed: objects down (in three columns), styles across."""
    firsts = [i for i, ask in enumerate(asks) if ask.row == "all pairs" and ask.seed == 0]
    cells = (images[firsts] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    blanks = np.full((-len(cells) % len(styles), *cells.shape[1:]), 255, np.uint8)
    cells = np.concatenate([cells, blanks])
    rows = [np.concatenate(list(cells[k : k + len(styles)]), 1) for k in range(0, len(cells), len(styles))]
    tall = -(-len(rows) // 3)
    rows += [np.full_like(rows[0], 255)] * (3 * tall - len(rows))
    Image.fromarray(np.concatenate([np.concatenate(rows[c * tall : (c + 1) * tall], 0) for c in range(3)], 1)).save(
        path
    )


def sweep(bench: Bench, concepts: Concepts, weights: Path) -> None:
    """Guidance, then steps, on plain training prompts: one picture a pair of every third object.

    Of what comes within TOLERANCE (objects and styles right, added) of the best, the fewest steps and then the lowest guidance are kept.
    """
    asks = [
        Ask("sweep", concepts.prompts(c.phrase, style)[0], (c.name,), style, 1000)
        for c in concepts.drawn[::3]
        for style in concepts.styles
    ]
    tried: list[dict[str, float]] = []

    def attempt(guidance: float, steps: int) -> None:
        found = bench.judged(asks, bench.draw(asks, guidance, steps))
        right = {"object": share([f[0] for f in found]), "style": share([f[1] for f in found])}
        tried.append({"guidance": guidance, "steps": steps, "n": len(asks), **right})
        log.info("%s", tried[-1])

    for guidance in GUIDANCES:
        attempt(guidance, STEPS[0])
    best = max(tried, key=lambda t: t["object"] + t["style"])
    for steps in STEPS[1:]:
        attempt(best["guidance"], steps)
    top = max(t["object"] + t["style"] for t in tried)
    good = [t for t in tried if t["object"] + t["style"] >= top - TOLERANCE]
    chosen = min(good, key=lambda t: (t["steps"], t["guidance"]))
    path = weights.with_suffix(".json")
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["sampling"] |= {"guidance": chosen["guidance"], "steps": chosen["steps"]}
    facts["sweep"] = tried
    common.write_json(path, facts)
    log.info("chosen: %s", chosen)


def card(args: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write CARD.md, or CARD_FLOW.md for the flow-matching model, from the packed files' own facts."""
    model = json.loads(args.weights.with_suffix(".json").read_text(encoding="utf-8"))
    if "transformer" in model:
        write_flow_card(args.out / "CARD_FLOW.md", model, result)
        return
    beside = args.weights.parents[1]  # as pack.py lays them
    paths = args.weights.with_suffix(".json"), beside / "judge.json", beside / "judge_clip.json"
    facts = Facts(*(json.loads(path.read_text(encoding="utf-8")) for path in paths))
    write_card(args.out / "CARD.md", facts, result, load_concepts())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of evaluation.json and CARD.md")
    parser.add_argument("--work", type=Path, default=Path("out/pocket"), help="folder of the contact sheet")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=0, help="a quick look: this many pictures of the main row")
    parser.add_argument("--rows", nargs="*", help="only these rows of the card, such as 'all pairs'")
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--card", action="store_true", help="only write the card anew, from evaluation.json")
    parser.add_argument("--threads", type=int, default=0, help="CPU cores to use; 0: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    flow = "_flow" if args.weights.stem.endswith("_flow") else ""
    figures = args.out / f"evaluation{flow}.json"
    if args.card:
        card(args, json.loads(figures.read_text(encoding="utf-8")))
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    concepts = load_concepts()
    bench = Bench(args.weights, args.device, torch.get_num_threads())
    if args.sweep:
        sweep(bench, concepts, args.weights)
        return
    asks = [ask for ask in questions(concepts, args.seeds) if not args.rows or ask.row in args.rows]
    if args.limit:
        pairs = [ask for ask in asks if ask.row == "all pairs" and ask.seed == 0]
        asks = [pairs[i] for i in sorted(np.random.default_rng(0).permutation(len(pairs))[: args.limit].tolist())]
    began = time.monotonic()
    images = bench.draw(asks, bench.model.guidance, bench.model.steps)
    found = bench.judged(asks, images)
    args.work.mkdir(parents=True, exist_ok=True)
    contact_sheet(asks, images, concepts.styles, args.work / f"pictures{flow}.png")
    result = {
        "sampling": bench.model.config["sampling"],
        "seeds": args.seeds,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "processor": f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "tensor_sha256": bench.model.config["tensor_sha256"],
        "rows": summary(asks, found),
        **details(asks, found, concepts.styles),
    }
    log.info("%s", json.dumps(result["rows"]))
    if args.limit:
        log.info("%s", json.dumps(details(asks, found, concepts.styles)))
        return
    common.write_json(figures, result)
    card(args, result)


if __name__ == "__main__":
    main()
