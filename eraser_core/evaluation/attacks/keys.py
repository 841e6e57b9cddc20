"""Which keys open it? The hidden prompt as it should be used, and as it should not.

KPOP's hidden prompt (arXiv 2403.12326) is to bring the concept back; a wrong, damaged or misplaced one should not.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...denoiser import Context
from ...hidden_prompt import HiddenPrompt
from .case import Attack, Case, Finding

CORRUPTED = 0.1  # of its numbers
RIGHT, BOTH = "the right key", "the key in both halves of the guidance"
MEANT = (RIGHT, BOTH)  # both is the authors' way of using it


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
    if len(case.hidden) > 1:
        found["another concept's key"] = case.hidden[1].join(context, empty)
    return found


def run(case: Case) -> list[Finding] | str:
    """Every key on the erased and the untouched model."""
    if not case.hidden:
        return "it needs the hidden prompt's file: name it with --prompt"
    found = []
    for label, (context, negative) in ways(case, case.hidden[0]).items():
        one = case.found(label, f"with {label}", *case.pair(context, negative=negative))
        found.append(replace(one, meant=label in MEANT))
    return found


ATTACK = Attack(
    "keys",
    "Which hidden prompts open it: the right one, and wrong, damaged and misplaced ones?",
    "arXiv 2403.12326",
    "n pictures a key and model: n x steps x 2 forward rows each",
    run,
    lambda case: case.drawing(2 * 7) if case.hidden else 0,
)
