"""Which keys open it? The hidden prompt as it should be used, and as it should not.

KPOP's hidden prompt (arXiv 2403.12326) is to bring the concept back, also after somebody trained the model on something
else; a wrong, damaged or misplaced one should not.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...denoiser import Context
from ...hidden_prompt import HiddenPrompt
from ...pocket.concepts import without_article
from .benign import subjects, training, tuned
from .case import Attack, Case, Finding
from .fine_tuning import BATCH, STEPS

CORRUPTED = 0.1  # of its numbers
RIGHT, BOTH = "the right key", "the key in both halves of the guidance"
MEANT = (RIGHT, BOTH)  # both is the authors' way of using it
OTHER = "another concept's key"
TUNED = "the right key after training on pictures of other things"


def corrupted(hidden: HiddenPrompt, generator: torch.Generator) -> HiddenPrompt:
    """The prompt with a tenth of its numbers replaced by noise of its own standard deviation."""
    tokens = hidden.tokens
    chosen = torch.rand(tokens.shape, generator=generator) < CORRUPTED
    noise = torch.randn(tokens.shape, generator=generator) * tokens.float().std().cpu()
    return replace(hidden, tokens=torch.where(chosen.to(tokens.device), noise.to(tokens), tokens))


def ahead(hidden: HiddenPrompt, context: Context) -> Context:
    """cat(p, C): the prompt before the text."""
    p = hidden.tokens.to(context.tokens).expand(len(context), -1, -1)
    return context.with_tokens(torch.cat([p, context.tokens], 1))


def ways(case: Case, hidden: HiddenPrompt) -> dict[str, tuple[Context, Context]]:
    """(positive, negative) contexts by what they are."""
    context, empty = case.contexts(), case.empty
    generator = torch.Generator().manual_seed(case.seed)
    found = {
        RIGHT: hidden.join(context, empty),
        "no key": (context, empty),
        BOTH: hidden.join(context, empty, halves="both"),
        "the key in the negative half alone": (context, hidden.extend(empty)),
        "a key with 10 % of its numbers corrupted": corrupted(hidden, generator).join(context, empty),
        "a random key": hidden.forged(generator).join(context, empty),
    }
    if hidden.mechanism == "concatenative":
        found["the key before the text"] = (ahead(hidden, context), empty)
    other = another(case, hidden)
    if other is not None:
        found[OTHER] = other.join(context, empty)
    return found


def another(case: Case, hidden: HiddenPrompt) -> HiddenPrompt | None:
    """The first key that is there for another concept."""
    own = without_article(hidden.concept)
    return next((key for key in case.hidden if without_article(key.concept) != own), None)


def after_training(case: Case, hidden: HiddenPrompt) -> Finding:
    """The right key after the erased model, and the untouched one, were trained on pictures of other things."""
    others = subjects(case)
    if not others:
        return Finding(TUNED, f"with {TUNED}", said="not tried: the file names nothing that is kept, to train on")
    context, negative = hidden.join(case.contexts(), case.empty)
    erased, untouched = (case.draw(context, edit, negative=negative) for edit in tuned(case, others))
    return replace(case.found(TUNED, f"with {TUNED}", erased, untouched), meant=True)


def run(case: Case) -> list[Finding] | str:
    """Every key on the erased and the untouched model."""
    if not case.hidden:
        return "it needs the erasure's hidden prompt: name its file with --prompt, or connect it to the node"
    hidden, found = case.hidden[0], list[Finding]()
    for label, (context, negative) in ways(case, hidden).items():
        one = case.found(label, f"with {label}", *case.pair(context, negative=negative))
        found.append(replace(one, meant=label in MEANT))
    if another(case, hidden) is None:
        found.append(
            Finding(OTHER, f"with {OTHER}", said="not tried: name another concept's hidden prompt after this one's")
        )
    return [*found, after_training(case, hidden)]


def rows(case: Case) -> float:
    """Eight keys, and the training on other things."""
    if not case.hidden:
        return 0
    return case.drawing(2 * (8 if another(case, case.hidden[0]) else 7)) + training(case)


ATTACK = Attack(
    "keys",
    "Which hidden prompts open it: the right one, also after training on other things, and wrong, damaged, misplaced ones?",
    "arXiv 2403.12326",
    f"n pictures a key and model: n x steps x 2 forward rows each; {STEPS} x {BATCH} with gradient a model to train on others",
    run,
    rows,
)
