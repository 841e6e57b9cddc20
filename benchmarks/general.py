"""What a closed form of many concepts is told to keep: bare words, words in prompts, and those that it moves most.

    python benchmarks/general.py
    python benchmarks/general.py --smoke

The settings of UCE's moments were chosen here. The lists are of objects that benchmarks/many.py does not name. A half of
the other objects is retained, the other half is named to nobody. `reached` is how far the concepts' tokens go towards their
anchors' (1 is all the way), `moved` how far the tokens of what nobody named go, as a share of what the layers read of them;
its worst are the tenth that goes furthest. `esr1` and `kept1` are of --images pictures each, by DPM-Solver++ in 8 steps. A row
a (setting, list) in out/benchmarks/general.json; a rerun goes on.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import common
import many
import torch
from pocket_objects import OBJECTS as TUNED
from torch import Tensor

from eraser_core.erasing import described
from eraser_core.evaluation.metrics.objects import esr, psr
from eraser_core.general_words import general_prompts, general_prompts_with, general_words
from eraser_core.models import Model, open_model
from eraser_core.text_moments import (
    GENERAL,
    KEPT,
    OVERSHOOT,
    RIDGE,
    ConceptStates,
    TextMap,
    concept_states,
    kept_moment,
    moment,
    normal_matrix,
)
from eraser_core.text_space import entries

KEY = ("setting", "list", "n")
COLUMNS = ("setting", "list", "concepts", "n", "esr1", "kept1", "reached", "moved", "moved_worst")
STEPS = 8
INFLUENCED, SHARE = 0.2, 0.3  # the part of the vocabulary that is kept once more, and its part of all that is kept


@dataclass(frozen=True)
class Case:
    """A list of concepts, what their closed forms are built from, and `gram` = sum over layers of W^T W [d, d]."""

    model: Model
    of: many.Lists
    states: tuple[ConceptStates, ...]
    named: Tensor
    gram: Tensor

    def phrases(self) -> list[str]:
        return [p for r in self.of.requests for t in r.targets for p in (t.concept, *t.synonyms)]

    def solved(self, kept: Tensor, weight: float, overshoot: float) -> TextMap:
        """The joint map with this moment of what is kept."""
        c = torch.stack([one.s.T @ one.s for one in self.states]).sum(0)
        towards = torch.stack([(one.g - one.s).T @ one.s for one in self.states]).sum(0)
        return TextMap((1 + overshoot) * towards, normal_matrix(c, kept, weight, RIDGE))


def words_alone(case: Case, weight: float, overshoot: float) -> TextMap:
    """The vocabulary as it was until there were prompts: every word by itself, as heavy as what is named."""
    named = {word for phrase in case.phrases() for word in phrase.split()}
    words = [word for word in general_words(case.model.denoiser.family) if word not in named]
    return case.solved(case.named + moment(case.model.denoiser, words), weight, overshoot)


def in_prompts(case: Case, weight: float, overshoot: float) -> TextMap:
    """Every word in a prompt, GENERAL times as heavy: UCE's moments."""
    return case.solved(case.named + GENERAL * moment(case.model.denoiser, _prompts(case)), weight, overshoot)


def influenced(case: Case, weight: float, overshoot: float) -> TextMap:
    """As in prompts, and those prompts once more that the first solution moves most (after SPEED, arXiv 2503.07392)."""
    denoiser, prompts = case.model.denoiser, _prompts(case)
    first = in_prompts(case, weight, overshoot).e
    how_far = torch.stack([moved(case, prompt, first) for prompt in prompts])
    most = [prompts[i] for i in how_far.topk(int(INFLUENCED * len(prompts))).indices]
    kept = case.named + GENERAL * moment(denoiser, prompts)
    again = moment(denoiser, most)
    return case.solved((1 - SHARE) * kept / kept.trace() + SHARE * again / again.trace(), weight, overshoot)


def without_their_names(case: Case, weight: float, overshoot: float) -> TextMap:
    """As in prompts, but for the names of the objects that are scored: what the vocabulary does for words that it lacks."""
    gone = set(general_prompts_with(case.model.denoiser.family, [c.name for c in case.of.unnamed]))
    prompts = [prompt for prompt in _prompts(case) if prompt not in gone]
    return case.solved(case.named + GENERAL * moment(case.model.denoiser, prompts), weight, overshoot)


def _prompts(case: Case) -> list[str]:
    family = case.model.denoiser.family
    gone = set(general_prompts_with(family, case.phrases()))
    return [prompt for prompt in general_prompts(family) if prompt not in gone]


SETTINGS: Mapping[str, Callable[[Case], TextMap]] = {
    "words alone, weight 9, overshoot 0": lambda case: words_alone(case, 9.0, 0.0),
    "words alone, weight 9, overshoot 0.2": lambda case: words_alone(case, 9.0, 0.2),
    "in prompts, weight 4.5, overshoot 0": lambda case: in_prompts(case, KEPT, 0.0),
    "in prompts, weight 4.5, overshoot 0.3 (default)": lambda case: in_prompts(case, KEPT, OVERSHOOT),
    "in prompts, weight 4.5, overshoot 0.5": lambda case: in_prompts(case, KEPT, 0.5),
    "in prompts, without the scored names": lambda case: without_their_names(case, KEPT, OVERSHOOT),
    "in prompts, the most moved once more": lambda case: influenced(case, KEPT, OVERSHOOT),
}


def tuning_lists(model: Model) -> dict[str, list[str]]:
    """Ten or twenty objects each, none of them in benchmarks/many.py."""
    others = [c.name for c in common.concepts_of(model).drawn if c.name not in {*many.TWENTY, *TUNED}]
    random.Random(7).shuffle(others)
    return {
        "first ten": others[:10],
        "second ten": others[10:20],
        "both": others[:20],
        "tuned on before, and ten": [*TUNED, *others[20:30]],
    }


def moved(case: Case, prompt: str, e: Tensor) -> Tensor:
    """How far a prompt's tokens behind the start go, squared, as a share of what the layers read of them."""
    denoiser = case.model.denoiser
    s = denoiser.as_read(denoiser.encode([prompt]).tokens)[0, 1:].double()
    d = s @ e.T
    return (d @ case.gram * d).sum() / (s @ case.gram * s).sum()


def reached(states: Sequence[ConceptStates], e: Tensor) -> float:
    """The mean over concepts of (E s) along g - s."""
    along = [((one.s @ e.T) * (one.g - one.s)).sum() / (one.g - one.s).square().sum() for one in states]
    return float(torch.stack(along).mean())


def figures(case: Case, found: TextMap, n: int) -> common.Row:
    """Far and wide in the text space, and in pictures."""
    model, of = case.model, case.of
    asked = [q.prompt for c in of.unnamed for q in many.asked(model, [c], 4, 30_000)]
    far = torch.stack([moved(case, prompt, found.e) for prompt in asked]).view(len(of.unnamed), -1).mean(1).sqrt()
    changed = entries(model.denoiser.weights("xattn-kv"), *found.factors(), "kv")
    edit = described(model.denoiser, of.together(0), "uce", "", {}, changed).to(torch.float16).as_edit()
    gone = [model.examiner.ranks(many.asked(model, [c], max(n // len(of.erased), 1), 0), edit) for c in of.erased]
    row: common.Row = {"reached": reached(case.states, found.e), "moved": float(far.mean())}
    row |= {"moved_worst": float(far.topk(max(len(far) // 10, 1)).values.mean()), "esr1": esr(torch.cat(gone)).value}
    return row | {"kept1": psr(model.examiner.ranks(many.asked(model, of.unnamed, n, 30_000), edit)).value}


def case_of(model: Model, names: Sequence[str]) -> Case:
    """A list, with all that its closed forms read."""
    of, denoiser = many.lists(model, names, 0), model.denoiser
    states = tuple(concept_states(denoiser, r.targets[0]) for r in of.requests)
    gram = torch.stack([w.double().T @ w.double() for w in denoiser.weights("xattn-kv").values()]).sum(0)
    return Case(model, of, states, kept_moment(denoiser, of.together(0), general=False), gram)


def main() -> int:
    """Every setting on every list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100, help="pictures a share")
    parser.add_argument("--smoke", action="store_true", help="one list, a few steps and pictures")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("general_smoke" if args.smoke else "general", KEY, fresh=args.smoke)
    model = open_model("pocket", common.device(), steps=2 if args.smoke else STEPS, solver="dpmpp")
    every, n = tuning_lists(model), 4 if args.smoke else args.images
    for name, objects in list(every.items())[: 1 if args.smoke else None]:
        case = case_of(model, objects)
        for setting, solve in SETTINGS.items():
            key = {"setting": setting, "list": name, "n": n}
            if not rows.has(key):
                rows.add(
                    {**key, "concepts": len(objects), **figures(case, solve(case), n), "machine": common.machine()}
                )
                common.log.info("%s", rows.rows[-1])
    means = common.means(rows.rows, ["setting"], COLUMNS[4:])
    text = f"## Means\n\n{common.table(means, ('setting', 'runs', *COLUMNS[4:]))}\n## Lists\n\n{common.table(rows.rows, COLUMNS)}"
    common.show(rows.path.stem, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
