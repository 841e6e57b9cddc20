"""What a suite is made of: the pictures that it asks for, and the erasures that it examines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ...erasure import Erasure
from ...hidden_prompt import HiddenPrompt
from ...sampling import picture_seed

UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Item:
    """One picture to draw, by every model that the suite shows it to.

    `part` is the sheet it belongs to, `concept` what it should show, `word` the words in the prompt that stand for that
    (for attribution maps), `texts` what a CLIP score compares it with, by column. `seed` is a published one; None takes
    it from (suite seed, index). `guidance` None is the run's.
    """

    index: int
    prompt: str
    part: str
    concept: str
    word: str = ""
    seed: int | None = None
    guidance: float | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    def noise_seed(self, suite_seed: int) -> int:
        """The seed of its noise."""
        return picture_seed(suite_seed, self.index) if self.seed is None else self.seed

    def facts(self) -> dict[str, Any]:
        """As JSON values, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", {})}


@dataclass(frozen=True, eq=False)
class Subject:
    """One erasure under examination.

    `targets` and `anchors` are what its metadata names, `templates` the prompts it learnt from (with {}), `retained` its
    retain set; `prompts` are its hidden prompts, one a target, or none.
    """

    name: str
    path: Path
    erasure: Erasure
    prompts: tuple[HiddenPrompt, ...] = ()

    @property
    def method(self) -> str:
        return self.erasure.fact("method")

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(json.loads(self.erasure.fact("targets")))

    @property
    def anchors(self) -> tuple[str, ...]:
        return tuple(json.loads(self.erasure.fact("anchor")))

    @property
    def retained(self) -> tuple[str, ...]:
        return tuple(json.loads(self.erasure.fact("retain")))

    @property
    def learnt_prompts(self) -> tuple[str, ...]:
        """The erased prompts, with {} for the concept."""
        request = json.loads(self.erasure.fact("request"))
        return tuple(t for target in request["targets"] for t in target["templates"])


class Pictures(Protocol):
    """The pictures that a suite asks for: all that drawing needs to know of it."""

    @property
    def name(self) -> str:
        """As the command line has it."""

    @property
    def said(self) -> str:
        """The options that decide its pictures, as the command line has them."""

    @property
    def concepts_shown(self) -> Sequence[str]:
        """For grids: the concepts that come first."""

    def items(self) -> Sequence[Item]:
        """Every picture of the suite."""

    def draws(self, subject: Subject | None, item: Item) -> bool:
        """Whether this model (None is the untouched one) is asked for this picture."""

    def target_of(self, subject: Subject, item: Item) -> int | None:
        """Which target of the erasure the picture asks for, by its number; None if for none of them."""
