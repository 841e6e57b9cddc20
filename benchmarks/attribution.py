"""Where the model looks for a word, before and after erasing it: heat maps against silhouettes, cosines over the steps.

    python benchmarks/attribution.py            # 36 objects of the pocket model
    python benchmarks/attribution.py --smoke    # the same code on two objects, a few steps and pictures

For every object: does the word's map put more of its weight on the silhouette of the untouched model's drawing (same
seed) than the map of the prompt's other word ("drawing", "image", "picture") does? On the untouched model, after KPOP,
and with the hidden prompt. A sign test over the objects; a null result is printed as one. The text encoder reads from
left to right, so a later word knows the object too and may take its place on the picture: prompts with the other word
before and after the object's are tested apart and together. For the first objects also
the cosine similarity between visual and textual features, KPOP beside ESD (slides, figure 6b and 6c). Prompts are
scoring templates that erasing never used. A row an object in out/benchmarks/attribution.json, pictures beside it; an
interrupted benchmark goes on.
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
from torch import Tensor

from eraser_core.denoiser import Edit
from eraser_core.erasing import Erased
from eraser_core.evaluation.metrics.attention import added_positions, word_positions
from eraser_core.evaluation.metrics.attribution import HeatMaps, heat_maps, overlay, share_on, silhouette
from eraser_core.evaluation.metrics.paired import mean_difference, sign_test
from eraser_core.evaluation.metrics.similarity import Cosines, cosines
from eraser_core.evaluation.pocket.tasks import object_task
from eraser_core.evaluation.report import plots
from eraser_core.evaluation.report.grid import grid, png
from eraser_core.files import write_bytes
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.models import Model
from eraser_core.pocket.concepts import Concept, without_article
from eraser_core.sampling import noise_for

OTHER_WORDS = ("drawing", "picture", "image")
CONDITIONS = ("untouched", "erased", "hidden")
PLACES = ("before", "after")
SHOWN = 4
SIGNS = ("objects", "higher", "lower", "sign test p", "verdict")
DIFFERENCES = ("objects", "weight on the drawing", "the other map's", "difference", "low", "high")


@dataclass(frozen=True)
class Asked:
    """A prompt, the object's word in it, another word of it, and whether that stands "before" or "after" the object's."""

    prompt: str
    word: str
    other: str
    place: str


def questions(model: Model, concept: Concept, n: int) -> list[Asked]:
    """n prompts from the scoring templates, the other word before and after the object's in turn."""
    templates = model.concepts.scoring.object if model.concepts is not None else ()
    by_place: dict[str, list[tuple[str, str]]] = {"before": [], "after": []}
    for template in templates:
        other = next(word for word in OTHER_WORDS if word in template)
        by_place["before" if template.index(other) < template.index("{phrase}") else "after"].append((template, other))
    found = []
    for i in range(n):
        place = "after" if i % 2 else "before"
        template, other = by_place[place][i // 2 % len(by_place[place])]
        prompt = template.replace("{phrase}", concept.phrase)
        found.append(Asked(prompt, without_article(concept.phrase), other, place))
    return found


def noise_of(model: Model, concept: Concept, n: int, suite_seed: int) -> Tensor:
    """An object's own noise [n, c, h, w]: with one noise for all, the objects would not be independent in the test."""
    place = 1000 * [c.name for c in model.concepts.objects].index(concept.name) if model.concepts is not None else 0
    indices = range(place, place + n)
    return noise_for(model.denoiser.latent_shape, suite_seed, indices).to(model.denoiser.device)


def contexts(model: Model, prompts: Sequence[str], hidden: HiddenPrompt | None) -> tuple[Any, Any]:
    """The prompts' contexts and the empty one, both with the hidden prompt where there is one."""
    both = model.denoiser.encode(prompts), model.denoiser.encode([""])
    return both if hidden is None else hidden.join(*both)


def maps_of(
    model: Model, asked: Sequence[Asked], noise: Tensor, steps: int, edit: Edit | None, hidden: HiddenPrompt | None
) -> tuple[HeatMaps, Tensor, Tensor]:
    """All maps of a condition, and those [n, h, w] of the word and the other word."""
    context, negative = contexts(model, [a.prompt for a in asked], hidden)
    found = heat_maps(model.denoiser, noise, context, negative, steps, guidance(model), edit)
    words = []
    for wanted in ("word", "other"):
        places = [word_positions(model.denoiser, a.prompt, getattr(a, wanted)) for a in asked]
        words.append(torch.stack([found.of(place)[i] for i, place in enumerate(places)]))
    return found, words[0], words[1]


def guidance(model: Model) -> float:
    """The guidance that the model's figures are for."""
    return float(getattr(model.denoiser, "guidance", 7.5))


def row_of(
    model: Model, concept: Concept, result: Erased, n: int, steps: int, suite_seed: int = 0
) -> tuple[common.Row, list[tuple[str, Tensor]]]:
    """The shares of an object in every condition, and the pictures of the figure's row, by the column's title."""
    asked = questions(model, concept, n)
    noise = noise_of(model, concept, n, suite_seed)
    edit, hidden = result.erasure.as_edit(), result.prompts[0]
    row: common.Row = {"object": concept.name, "n": n, "suite_seed": suite_seed, "steps": steps}
    shown: list[tuple[str, Tensor]] = []
    mask = torch.empty(0)
    for name, e, p in (("untouched", None, None), ("erased", edit, None), ("hidden", edit, hidden)):
        found, word, other = maps_of(model, asked, noise, steps, e, p)
        images = model.denoiser.decode(found.latents)
        if name == "untouched":
            mask = silhouette(images)
            row["area"] = float(mask.float().mean())  # what a map without any preference would have
        for which, maps in (("word", word), ("other", other)):
            shares = share_on(maps, mask)
            row[f"{name}_{which}"] = float(shares.mean())
            for place in PLACES:
                row[f"{name}_{which}_{place}"] = float(shares[[a.place == place for a in asked]].mean())
        row[f"{name}_mass"] = float(word.mean())
        if p is not None:
            places = added_positions(contexts(model, [""], None)[0], contexts(model, [""], p)[0])
            row["hidden_p"] = float(share_on(found.of(places), mask).mean()) if places else None
        shown += [
            (name, images[:1]),
            ("its word", overlay(images, word)[:1]),
            ("other word", overlay(images, other)[:1]),
        ]
    row["weights"] = model.denoiser.base_hash[:16]
    return row, shown


def followed(
    model: Model, concept: Concept, results: dict[str, Erased], n: int, steps: int, suite_seed: int = 0
) -> dict[str, Cosines]:
    """The cosines of an object's word untouched, after KPOP and after ESD, and of KPOP's p when it is used."""
    ask = questions(model, concept, 1)[0]
    noise = noise_of(model, concept, n, suite_seed)
    plain, negative = contexts(model, [ask.prompt] * n, None)
    word = {"word": word_positions(model.denoiser, ask.prompt, ask.word)}
    found = {"untouched": cosines(model.denoiser, noise, plain, negative, steps, guidance(model), word)}
    for name, result in results.items():
        edit = result.erasure.as_edit()
        found[name] = cosines(model.denoiser, noise, plain, negative, steps, guidance(model), word, edit)
        if result.prompts:
            context, empty = contexts(model, [ask.prompt] * n, result.prompts[0])
            groups = {**word, "p": added_positions(plain, context)}
            with_p = cosines(model.denoiser, noise, context, empty, steps, guidance(model), groups, edit)
            found[f"{name}, with p"] = with_p
    return found


def verdicts(rows: Sequence[common.Row]) -> list[common.Row]:
    """A line a condition and place of the other word, and one for p's own map against a map of one value."""
    area = [row["area"] for row in rows]
    found = []
    for name, place in ((c, p) for c in CONDITIONS for p in ("", *PLACES)):
        end = "_" + place if place else ""
        word, other = ([row[f"{name}_{which}{end}"] for row in rows] for which in ("word", "other"))
        named = {"condition": name, "map": "the word's", "against": f"the other word's, {place or 'before and after'}"}
        found.append({**named, **verdict(word, other)})
    p_maps = [row["hidden_p"] for row in rows if row["hidden_p"] is not None]
    if len(p_maps) == len(rows):
        found.append({"condition": "hidden", "map": "p's", "against": "one value everywhere", **verdict(p_maps, area)})
    return found


def verdict(first: Sequence[float], second: Sequence[float]) -> common.Row:
    """The sign test over objects, the mean difference and its interval."""
    one, two = torch.tensor(first), torch.tensor(second)
    signs, mean = sign_test((one - two).tolist()), mean_difference(one, two)
    said = "no difference shown"
    if signs.p < 0.05:
        said = "more on the drawing" if signs.positive > signs.negative else "less on the drawing"
    return {
        "objects": len(one),
        "weight on the drawing": float(one.mean()),
        "the other map's": float(two.mean()),
        "higher": signs.positive,
        "lower": signs.negative,
        "sign test p": f"{signs.p:.2g}",
        "difference": mean.value,
        "low": mean.low,
        "high": mean.high,
        "verdict": said,
    }


def cosine_row(concept: Concept, found: dict[str, Cosines], weights: str) -> common.Row:
    """A row an object: the mean of every condition and group of tokens, and the curves [blocks, steps] behind it."""
    first = found["untouched"]
    entries = [
        {
            "condition": condition,
            "tokens": tokens,
            "mean": float(c.values[tokens].mean()),
            "curves": [[round(v, 5) for v in curve] for curve in c.curves(tokens).tolist()],
        }
        for condition, c in found.items()
        for tokens in c.values
    ]
    named = {"object": concept.name, "blocks": first.blocks, "timesteps": first.timesteps, "weights": weights}
    return {**named, "entries": entries}


def run_all(model: Model, objects: Sequence[Concept], args: argparse.Namespace) -> None:
    """Measure every object that has no row yet; keep rows and pictures as they come."""
    rows = common.Rows(args.name, ("object", "weights"), fresh=args.smoke)
    similar = common.Rows(args.name + "_cosines", ("object", "weights"), fresh=args.smoke)
    quick = {"iterations": 2, "sampler_steps": 4} if args.smoke else {}
    weights = model.denoiser.base_hash[:16]
    pictures: dict[str, list[tuple[str, Tensor]]] = {}
    for i, concept in enumerate(objects):
        named = {"object": concept.name, "weights": weights}
        wanted = i < args.cosines and not similar.has(named)
        if model.concepts is None or (rows.has(named) and not wanted):
            continue
        task = object_task(model.concepts, model.denoiser, concept.name, seed=args.seed, n=1)
        methods = ("kpop", "esd") if wanted else ("kpop",)
        results = {m: common.run(model, task, m, quick, key_seed=args.seed) for m in methods}
        if not rows.has(named):
            row, shown = row_of(model, concept, results["kpop"], args.images, args.steps)
            rows.add({**row, "anchor": task.anchor, "seed": args.seed})
            pictures[concept.name] = shown
            common.log.info("%s", rows.rows[-1])
        if wanted:
            found = followed(model, concept, results, args.images, args.steps)
            similar.add(cosine_row(concept, found, weights))
    if pictures:
        columns = [title for title, _ in next(iter(pictures.values()))]
        few = [(name, torch.cat([image for _, image in shown])) for name, shown in list(pictures.items())[:SHOWN]]
        write_bytes(common.OUT / f"{args.name}.png", png(grid(few, columns, 1, cell=112)))
    # rows of an earlier pocket model stay in the file, and out of the tables
    report(*([row for row in r.rows if row["weights"] == weights] for r in (rows, similar)))
    for row in similar.rows:
        if row["weights"] == weights:
            write_bytes(common.OUT / f"{args.name}_cosines_{row['object'].replace(' ', '_')}.svg", curves(row).encode())


def curves(row: common.Row) -> str:
    """The SVG of an object's cosines over the steps."""
    found = {f"{e['condition']}: {e['tokens']}": torch.tensor(e["curves"]) for e in row["entries"]}
    return plots.cosines(found, row["timesteps"])


def report(rows: Sequence[common.Row], similar: Sequence[common.Row]) -> None:
    """The tables, on standard output."""
    shares = ("object", "n", "area", *(f"{c}_{w}" for c in CONDITIONS for w in ("word", "other")), "hidden_p")
    lines = verdicts(rows)
    named = ("condition", "map", "against")
    sys.stdout.write("share of a map's weight on the untouched drawing\n\n" + common.table(rows, shares))
    sys.stdout.write("\nsign tests over objects\n\n" + common.table(lines, (*named, *SIGNS)))
    sys.stdout.write("\ndifferences over objects\n\n" + common.table(lines, (*named, *DIFFERENCES)))
    by = common.means([entry for row in similar for entry in row["entries"]], ["condition", "tokens"], ["mean"])
    sys.stdout.write("\ncosines\n\n" + common.table(by, ("condition", "tokens", "runs", "mean")))


def main() -> int:
    """Run what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two objects, a few steps and pictures")
    parser.add_argument("--objects", type=int, default=36, help="how many objects, drawn by the seed")
    parser.add_argument("--images", type=int, default=6, help="pictures an object and condition")
    parser.add_argument("--cosines", type=int, default=4, help="for how many of them the cosines, and ESD, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="attribution", help="name of the JSON file, for runs side by side")
    args = parser.parse_args()
    common.start_logging()
    model = common.pocket()
    args.steps = int(getattr(model.denoiser, "steps", 25))
    if args.smoke:
        args.images, args.objects, args.cosines, args.steps = 2, 2, 1, 3
        args.name = "attribution_smoke"
    drawn = model.concepts.drawn if model.concepts is not None else ()
    chosen = random.Random(f"attribution/{args.seed}").sample(drawn, min(args.objects, len(drawn)))
    run_all(model, chosen, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
