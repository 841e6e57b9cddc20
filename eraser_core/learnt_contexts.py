"""Contexts that are learnt from pictures of a concept while the network changes: what `robust` trains against.

    v  <-  v - rate Adam( grad_v || target - eps_theta'(z_t, v) ||^2 )          target: what a picture's z_t implies

It is textual inversion over all tokens of a context (the attack of CCE, arXiv 2308.01508). The attack in
evaluation/attacks/learnt_context.py learns one context on a network that stands still. Here there are many, and each goes a
few steps at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .denoiser import Context

NOTHING = ("", "a picture")  # prompts that say nothing


class LearntContexts:
    """`count` contexts [n, d], begun at prompts of `starts` [s, n, d] by chance. `steps` [count] says how far each has come."""

    def __init__(self, starts: Context, count: int, rate: float, generator: torch.Generator):
        self._starts, self._generator = starts, generator
        self._first = torch.zeros(count, dtype=torch.long)
        self.steps = torch.zeros(count, dtype=torch.long)
        self.tokens = [torch.zeros_like(starts.tokens[0]) for _ in range(count)]
        self.optimizer = torch.optim.Adam(self.tokens, lr=rate)
        self._oldest = torch.zeros(1, dtype=torch.long)
        for _ in range(count):
            self.renew()

    def renew(self) -> None:
        """Begin the oldest one anew."""
        i = int(self._oldest)
        start = torch.randint(len(self._starts), (1,), generator=self._generator)
        self._first[i], self.steps[i] = start, 0
        self.tokens[i].copy_(self._starts.tokens[int(start)])
        self.optimizer.state.pop(self.tokens[i], None)
        self._oldest[0] = (i + 1) % len(self.tokens)

    def some(self, b: int, least: int = 0) -> Tensor:
        """Numbers of b of them by chance, of those that have come `least` steps; some twice where those are fewer."""
        known = (self.steps >= least).nonzero().flatten()
        order = torch.randperm(len(known), generator=self._generator)
        return known[order[torch.arange(b) % len(known)]]

    def youngest(self, b: int) -> Tensor:
        """Numbers of the b that have come least far."""
        return self.steps.argsort(stable=True)[:b]

    def context(self, chosen: Tensor) -> Context:
        """Those contexts [b, n, d], without gradient."""
        tokens = torch.stack([self.tokens[i] for i in chosen.tolist()])
        return self._starts[self._first[chosen].to(tokens.device)].with_tokens(tokens)

    def learn(self, chosen: Tensor, gradients: Tensor) -> None:
        """A step of the chosen ones, which are different, down their gradients [b, n, d]."""
        for i, gradient in zip(chosen.tolist(), gradients, strict=True):
            self.tokens[i].grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps[chosen] += 1

    def numbers(self) -> list[Tensor]:
        """All but the tokens and the optimiser, for a checkpoint."""
        return [self._first, self.steps, self._oldest]


def starts(concepts: Sequence[str], retained: Sequence[str]) -> list[str]:
    """Prompts that contexts begin at: the concept's, one that says nothing, and those of others, in equal parts."""
    kinds = [prompts for prompts in (concepts, NOTHING, retained) if prompts]
    return [prompts[i % len(prompts)] for i in range(max(map(len, kinds))) for prompts in kinds]
