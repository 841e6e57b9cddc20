"""Draws pictures for questions and lets a judge answer them; the same question always gets the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..denoiser import Context, Denoiser, Edit
from ..errors import ModelError
from ..files import tensors_hash
from ..hidden_prompt import Halves, HiddenPrompt
from ..pocket.judge import Judge
from ..sampling import Solver, noise_for, sample
from .metrics.objects import ranks

BATCH = 48
_Known = tuple[str, int, int, str, float, str]
Head = Literal["object", "style"]


@dataclass(frozen=True)
class Question:
    """A prompt and the class that its picture should be taken for; `index` fixes its noise within the suite."""

    prompt: str
    head: Head
    answer: str
    index: int


class Examiner:
    """A model under examination: how its pictures are sampled and who judges them.

    `decode` turns latents into pictures [b, 3, h, w] in [0, 1]. A picture's noise comes from (suite seed, index)
    alone, so two models are compared on pairs of pictures.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        decode: Callable[[Tensor], Tensor],
        judge: Judge | None,
        *,
        guidance: float,
        steps: int,
        suite_seed: int = 0,
        solver: Solver = "ddim",
        remember: bool = False,
    ):
        self.denoiser, self.judge, self.suite_seed = denoiser, judge, suite_seed
        self.guidance, self.steps, self.solver, self._decode = guidance, steps, solver, decode
        self._untouched: dict[Question, int] = {}
        self._drawn: dict[_Known, Tensor] | None = {} if remember else None
        self.on_drawn: Callable[[int], None] = lambda count: None  # hears of every batch of pictures
        self._edits: list[Edit] = []  # kept alive, so that no other edit gets the id of one whose pictures are known

    def images(
        self,
        prompts: Sequence[str],
        indices: Sequence[int],
        edit: Edit | None = None,
        hidden: HiddenPrompt | None = None,
        strength: float = 1.0,
        halves: Halves = "positive",
    ) -> Tensor:
        """Pictures [len(prompts), 3, h, w] in [0, 1]; `halves` of the guidance get the hidden prompt.

        An examiner that remembers draws each picture once: what is scored is also shown.
        """
        if self._drawn is None:
            return self._images(prompts, indices, edit, hidden, strength, halves)
        if edit is not None and all(edit is not known for known in self._edits):
            self._edits.append(edit)
        of = (id(edit), tensors_hash({"p": hidden.tokens}) if hidden else "", strength, halves)
        asked: list[_Known] = [(prompt, index, *of) for prompt, index in zip(prompts, indices, strict=True)]
        new = [known for known in dict.fromkeys(asked) if known not in self._drawn]
        if new:
            images = self._images([k[0] for k in new], [k[1] for k in new], edit, hidden, strength, halves)
            self._drawn |= dict(zip(new, images, strict=True))
        return torch.stack([self._drawn[known] for known in asked])

    def _images(
        self,
        prompts: Sequence[str],
        indices: Sequence[int],
        edit: Edit | None,
        hidden: HiddenPrompt | None,
        strength: float,
        halves: Halves,
    ) -> Tensor:
        parts = []
        for first in range(0, len(prompts), BATCH):
            rows = slice(first, first + BATCH)
            context, negative = self._contexts(prompts[rows], hidden, strength, halves)
            parts.append(self.draw(context, negative, indices[rows], edit))
        return torch.cat(parts)

    def draw(self, context: Context, negative: Context, indices: Sequence[int], edit: Edit | None = None) -> Tensor:
        """Pictures [len(indices), 3, h, w] of contexts, one a picture."""
        noise = noise_for(self.denoiser.latent_shape, self.suite_seed, indices)
        return self.draw_from(noise, context, negative, self.guidance, edit)

    def draw_from(
        self,
        noise: Tensor,
        context: Context,
        negative: Context,
        guidance: float,
        edit: Edit | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """The same from noise [b, c, h, w], with a guidance scale and, where given, sampling steps of the caller's."""
        noise = noise.to(self.denoiser.device)
        latents = sample(self.denoiser, noise, context, negative, steps or self.steps, guidance, edit, self.solver)
        return self.decoded(latents)

    def decoded(self, latents: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] in [0, 1] of latents that the caller sampled."""
        images = self._decode(latents)
        self.on_drawn(len(images))
        return images

    def _contexts(
        self, prompts: Sequence[str], hidden: HiddenPrompt | None, strength: float, halves: Halves
    ) -> tuple[Context, Context]:
        context, negative = self.denoiser.encode(prompts), self.denoiser.encode([""])
        if hidden is None:
            return context, negative
        return hidden.join(context, negative, strength, halves)

    def ranks(
        self,
        questions: Sequence[Question],
        edit: Edit | None = None,
        hidden: HiddenPrompt | None = None,
        halves: Halves = "positive",
    ) -> Tensor:
        """[len(questions)] the judge's rank of each right answer: 0 is its first guess.

        Answers on the untouched model never change, so each is found once.
        """
        if edit is not None or hidden is not None:
            return self._ask(questions, edit, hidden, halves)
        new = [q for q in questions if q not in self._untouched]
        if new:
            self._untouched |= dict(zip(new, self._ask(new, None, None, halves).tolist(), strict=True))
        return torch.tensor([self._untouched[q] for q in questions], dtype=torch.long)

    def _ask(
        self, questions: Sequence[Question], edit: Edit | None, hidden: HiddenPrompt | None, halves: Halves
    ) -> Tensor:
        said, indices = [q.prompt for q in questions], [q.index for q in questions]
        images = self.images(said, indices, edit, hidden, halves=halves)
        return self.rank_images(questions, images)

    def rank_images(self, questions: Sequence[Question], images: Tensor) -> Tensor:
        """The same for pictures that are there already."""
        if self.judge is None:
            raise ModelError("no judge is at hand for this model: its pictures can be drawn but not scored")
        scores = self.judge.classify(images)
        found = torch.empty(len(questions), dtype=torch.long)
        for head, logits, names in (
            ("object", scores.object_logits, self.judge.objects),
            ("style", scores.style_logits, self.judge.styles),
        ):
            here = [i for i, q in enumerate(questions) if q.head == head]
            answers = torch.tensor([names.index(questions[i].answer) for i in here], dtype=torch.long)
            found[here] = ranks(logits[here], answers.to(logits.device)).cpu()
        return found
