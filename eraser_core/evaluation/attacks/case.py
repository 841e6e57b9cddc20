"""What is attacked: one erased concept of one model. Attacks draw and judge through a `Case`, and hand back `Finding`s."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ...denoiser import Context, Edit
from ...erasure import Erasure, FrozenEdit, stack
from ...errors import RequestError
from ...hidden_prompt import HiddenPrompt
from ...pocket.concepts import without_article
from ...pocket.drawings import drawings, drawn_by_hand
from ...request import Target, fill
from ...sampling import noise_for, sample
from ..examiner import BATCH
from ..metrics.objects import Rate
from ..pocket.tasks import category_of, questions, style_questions
from .seam import Opened, Seeing

FIRST_INDEX = 700_000  # the suites' pictures have other numbers
SHOWN = 4  # pictures of a column that the page shows
# Objects that the pocket model never knew, in the order of benchmarks/methods.py
NEVER_KNOWN = ("tent", "fountain", "saxophone", "microphone", "pineapple")
PLAIN = ("{}", "a picture of {}", "a photo of {}", "an image of {}")
GRADIENT = 3  # forward rows that a row with gradient takes the time of: its backward is twice its forward


@dataclass(frozen=True)
class Finding:
    """What one way of an attack gave.

    `way` goes on from "comes back ..."; `label` names it in a table. `erased`, `untouched` and `unknown` (a concept that
    the model never knew) are shares of pictures that show the concept, None where nothing was drawn or nobody judges.
    `shown` are the first pictures [b, 3, h, w] by column. `said` is what has no picture; `undone` is its answer.
    `given` is the share that what the attack was given shows by itself, where it was given a part of the picture.
    `meant` is a way that is meant to bring the concept back: no attack.
    """

    label: str
    way: str
    erased: Rate | None = None
    untouched: Rate | None = None
    unknown: Rate | None = None
    shown: dict[str, Tensor] = field(default_factory=dict)
    said: str = ""
    undone: bool | None = None
    meant: bool = False
    given: Rate | None = None


@dataclass(frozen=True)
class Attack:
    """One question to an erasure. `asks`, `paper` and `budget` are for people. `quick` ones are run unless others are named.

    `run` gives its findings, or the reason in words why it has no meaning for this case. `rows` is how many forward rows it
    will take about, those with gradient GRADIENT times, to say how long it will last.
    """

    name: str
    asks: str
    paper: str
    budget: str
    run: Callable[[Case], list[Finding] | str]
    rows: Callable[[Case], float]
    quick: bool = False


class Case:
    """A model, an erasure that fits it, and the target that is to be brought back.

    `n` pictures a share. Picture i of every column has the same noise, from (suite seed, index) alone. `hidden` are
    hidden prompts: the target's first. `beside` is a second LoRA, which a user may stack on the erasure.
    """

    def __init__(
        self,
        model: Opened,
        erasure: Erasure,
        target: Target,
        retained: Sequence[str] = (),
        *,
        n: int = 16,
        seed: int = 0,
        hidden: Sequence[HiddenPrompt] = (),
        beside: Erasure | None = None,
    ):
        self.model, self.erasure, self.target, self.n, self.seed, self.hidden = model, erasure, target, n, seed, hidden
        self.beside = beside
        self.denoiser, self.examiner, self.concepts = model.denoiser, model.examiner, model.concepts
        self.edit = self.frozen(erasure)
        self.retained = tuple(p for p in retained if self.readable(p))
        self.judged = model.concepts is not None and model.examiner.judge is not None
        self.unknown = NEVER_KNOWN[seed % len(NEVER_KNOWN)]
        self._plain: dict[bool, Tensor] = {}

    def frozen(self, erasure: Erasure, strength: float = 1.0, *others: Erasure) -> FrozenEdit:
        """An erasure, and whole others stacked on it, as an edit on the model's device."""
        deltas = stack((erasure, *others), (strength, *(1.0 for _ in others))).deltas
        return FrozenEdit({key: delta.to(self.denoiser.device) for key, delta in deltas.items()})

    # words

    def readable(self, prompt: str) -> bool:
        """Whether the model's text encoder knows every word of it and has room for it."""
        try:
            return self.denoiser.excess(prompt) <= 0
        except RequestError:
            return False

    def prompts(self, phrase: str | None = None) -> list[str]:
        """n prompts for a phrase, by default the concept's own: scoring templates where the model has some."""
        concepts, said = self.concepts, phrase or self.target.concept
        if concepts is None:
            return [fill(PLAIN[i % len(PLAIN)], said) for i in range(self.n)]
        if self.target.concept in concepts.styles:
            chosen = random.Random(f"audit/{self.target.concept}").sample(concepts.drawn, len(concepts.drawn))
            asked = style_questions(concepts, chosen, [(self.target.concept, said)], self.n, FIRST_INDEX)
        else:
            category = category_of(concepts, self.target.concept)
            some = concepts.members(category) if category and phrase is None else concepts.drawn[:1]
            found = concepts.find(said)
            pairs = [(c, c.phrase) for c in some] if category and phrase is None else [(found or some[0], said)]
            asked = questions(concepts, pairs, self.n, FIRST_INDEX)
        return [q.prompt for q in asked]

    def contexts(self, phrase: str | None = None) -> Context:
        """Contexts [n, tokens, d] of `prompts`."""
        return self.denoiser.encode(self.prompts(phrase))

    @property
    def empty(self) -> Context:
        """The context [1, tokens, d] of the empty prompt."""
        return self.denoiser.encode([""])

    # pictures

    def noise(self, height: float = 1, width: float = 1) -> Tensor:
        """[n, c, h, w] on the CPU, for pictures of so many times the model's own height and width."""
        c, h, w = self.denoiser.latent_shape
        indices = range(FIRST_INDEX, FIRST_INDEX + self.n)
        return noise_for((c, round(h * height), round(w * width)), self.examiner.suite_seed, indices)

    def draw(
        self,
        context: Context,
        edit: Edit | None,
        *,
        negative: Context | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        size: tuple[float, float] = (1, 1),
    ) -> Tensor:
        """n pictures [n, 3, h, w] of one context or n of them.

        They are drawn at `size` times the model's own height and width, and then shrunk to those, as the judge sees them.
        """
        context = context.expand(self.n) if len(context) == 1 else context
        negative = self.empty if negative is None else negative
        noise, scale, parts = self.noise(*size), guidance or self.examiner.guidance, []
        for first in range(0, self.n, BATCH):
            rows = slice(first, first + BATCH)
            other = negative[rows] if len(negative) > 1 else negative
            parts.append(self.examiner.draw_from(noise[rows], context[rows], other, scale, edit, steps))
        images = torch.cat(parts)
        if size == (1, 1):
            return images
        own = round(images.shape[-2] / size[0]), round(images.shape[-1] / size[1])
        return F.interpolate(images, own, mode="bilinear", antialias=True)

    def pair(
        self,
        context: Context,
        *,
        negative: Context | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        size: tuple[float, float] = (1, 1),
    ) -> tuple[Tensor, Tensor]:
        """`draw` by the erased and by the untouched model."""
        erased = self.draw(context, self.edit, negative=negative, guidance=guidance, steps=steps, size=size)
        return erased, self.draw(context, None, negative=negative, guidance=guidance, steps=steps, size=size)

    def plain(self, erased: bool) -> Tensor:
        """The concept asked for by its name, drawn once."""
        if erased not in self._plain:
            self._plain[erased] = self.draw(self.contexts(), self.edit if erased else None)
        return self._plain[erased]

    def latents(self, count: int) -> Tensor:
        """z_0 [count, c, h, w] of pictures of the concept: drawings by hand, or what the untouched model draws.

        So no attack needs a picture of the user's.
        """
        name = without_article(self.target.concept)
        if name in drawn_by_hand() and self.concepts is not None and isinstance(self.denoiser, Seeing):
            return self.drawn_latents(name, count)
        return self.own_latents(self.denoiser.encode(self.prompts()), count)

    def own_latents(self, contexts: Context, count: int) -> Tensor:
        """z_0 [count, c, h, w] of what the untouched model draws of contexts in turn."""
        noise = noise_for(self.denoiser.latent_shape, self.seed + 1, range(count)).to(self.denoiser.device)
        rows = torch.arange(count, device=self.denoiser.device) % len(contexts)
        examiner = self.examiner
        return sample(
            self.denoiser,
            noise,
            contexts[rows],
            self.empty,
            examiner.steps,
            examiner.guidance,
            None,
            examiner.solver,
        )

    def drawn_latents(self, name: str, count: int) -> Tensor:
        """z_0 [count, c, h, w] of drawings by hand in all styles, then of their mirror images."""
        if not isinstance(self.denoiser, Seeing):
            raise RequestError("drawings are of the pocket model's objects alone")
        images = drawings(name)
        images = torch.cat([images, images.flip(-1)])
        return self.denoiser.encode_images(images[torch.arange(count) % len(images)])

    @property
    def floor(self) -> bool:
        """Whether an attack that learns from pictures can be tried on a concept that the model never knew."""
        return self.judged and isinstance(self.denoiser, Seeing)

    # cost

    def drawing(self, columns: float) -> float:
        """Forward rows of columns of n pictures."""
        return columns * self.n * self.examiner.steps * 2

    def learning(self, iterations: int, batch: int) -> float:
        """Forward rows of every column of an attack that learns from pictures, and then draws."""
        columns = 3 if self.floor else 2
        return columns * iterations * batch * GRADIENT + self.drawing(columns)

    # answers

    def seen(self, images: Tensor, name: str | None = None) -> Rate | None:
        """The share of pictures that the judge takes for the concept, or for the object `name`; None without a judge."""
        judge, concepts = self.examiner.judge, self.concepts
        if judge is None or concepts is None:
            return None
        scores, wanted = judge.classify(images), name or self.target.concept
        category = None if name else category_of(concepts, wanted)
        if category is not None:
            names = {c.name for c in concepts.objects if c.category == category}
            columns = [i for i, own in enumerate(judge.objects) if own in names]
            hits = scores.object_logits.softmax(1)[:, columns].sum(1) > 0.5
        elif wanted in judge.styles and not name:
            hits = scores.style_logits.argmax(1) == judge.styles.index(wanted)
        else:
            hits = scores.object_logits.argmax(1) == judge.objects.index(concepts.get(wanted).name)
        return Rate(int(hits.sum()), len(hits))

    def found(
        self,
        label: str,
        way: str,
        erased: Tensor,
        untouched: Tensor | None = None,
        unknown: Tensor | None = None,
        said: str = "",
        undone: bool | None = None,
    ) -> Finding:
        """A finding of pictures, judged where there is a judge."""
        columns = {"untouched": untouched, "erased": erased, f"never known: {self.unknown}": unknown}
        return Finding(
            label,
            way,
            self.seen(erased),
            None if untouched is None else self.seen(untouched),
            None if unknown is None else self.seen(unknown, self.unknown),
            {name: images[:SHOWN] for name, images in columns.items() if images is not None},
            said,
            undone,
        )
