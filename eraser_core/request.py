"""What to erase, what to put in its place, what to keep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import RequestError


def fill(template: str, phrase: str) -> str:
    """Put a phrase where the template says {}."""
    return " ".join(template.replace("{}", phrase).split())


def says(text: str, phrase: str) -> bool:
    """Whether a text holds a phrase, by whole words and in any case; its article aside."""
    bare = re.sub(r"^(an?|the)\s+", "", phrase.strip(), flags=re.IGNORECASE)
    return re.search(rf"(?<!\w){re.escape(bare)}(?!\w)", text, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Target:
    """One concept (its name and further phrases for it) and the anchor concept that takes its place.

    `templates` are prompts with {} in place of the concept; the anchor is put into the same ones, so that the
    sanitized network sees c_e and c_n differ in the concept alone. An empty anchor is the neutral prompt "".
    """

    concept: str
    anchor: str
    synonyms: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)

    def __post_init__(self) -> None:
        if not self.concept.strip():
            raise RequestError("the concept to erase is empty: name what should vanish, as in --concept church")
        if self.anchor.strip().lower() in {p.strip().lower() for p in (self.concept, *self.synonyms)}:
            raise RequestError(
                f"the anchor {self.anchor!r} is the concept itself: name another concept to draw in its place"
            )
        wrong = [t for t in self.templates if t.count("{}") != 1]
        if wrong or not self.templates:
            raise RequestError(f"a template needs {{}} once, where the concept goes: {wrong or 'none was given'}")

    def pairs(self) -> list[tuple[str, str]]:
        """(c_e, c_n) as prompts: every phrase in every template, beside the anchor in the same template."""
        return [
            (fill(template, phrase), fill(template, self.anchor) if self.anchor else "")
            for phrase in (self.concept, *self.synonyms)
            for template in self.templates
        ]


@dataclass(frozen=True)
class Request:
    """The targets, the retain set (whole prompts whose pictures must not change) and the seed of the run."""

    targets: tuple[Target, ...]
    retain: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.targets:
            raise RequestError("nothing to erase: name at least one concept")
        names = [t.concept.strip().lower() for t in self.targets]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise RequestError(f"{twice[0]!r} is to be erased twice: name it once")
        if any(not prompt.strip() for prompt in self.retain):
            raise RequestError("a concept to retain is empty: name what should stay, or leave it out")
        erased = {c_e.lower(): t.concept for t in self.targets for c_e, _ in t.pairs()}
        for target in self.targets:
            erased |= {p.lower(): target.concept for p in (target.concept, *target.synonyms)}
        for prompt in self.retain:
            if prompt.lower() in erased:
                raise RequestError(
                    f"the retain set holds {prompt!r}, which is the concept {erased[prompt.lower()]!r} to erase: "
                    "take it out of one of the two"
                )

    def erases(self, text: str) -> bool:
        """Whether a text holds a concept of this request, or a synonym of one."""
        return any(says(text, phrase) for t in self.targets for phrase in (t.concept, *t.synonyms))

    def facts(self) -> dict[str, Any]:
        """The request as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> Request:
        """The inverse of `facts`."""
        targets = tuple(
            Target(t["concept"], t["anchor"], tuple(t["synonyms"]), tuple(t["templates"])) for t in facts["targets"]
        )
        return Request(targets, tuple(facts["retain"]), facts["seed"])


def retain_prompts(names: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    """Each kept concept in each template, in order and without repeats."""
    return tuple(dict.fromkeys(fill(t, n) for n in names for t in templates))
