"""What travels on the pack's own sockets. Erasures are the engine's own value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eraser_core.errors import RequestError
from eraser_core.hidden_prompt import HiddenPrompt, load_prompts, pick, save_prompts


@dataclass(frozen=True)
class MethodChoice:
    """A method by its registered name and the settings that differ from the model family's own."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompts:
    """The hidden prompts of one run, one a concept, and what their file says beside them. Private."""

    prompts: tuple[HiddenPrompt, ...]
    key_seed: int
    erasure_hash: str
    facts: Mapping[str, str]

    def pick(self, concept: str) -> HiddenPrompt:
        """The prompt of a concept ("church" also finds "a church"), or the only one when no name is given."""
        if not self.prompts:
            raise RequestError("this run has no hidden prompt: its method makes none (KPOP and Locked do)")
        try:
            return pick(self.prompts, concept)
        except RequestError as error:
            raise RequestError(f"the box 'concept': {error}") from error

    def save(self, path: Path) -> None:
        """Write them, atomically and readable by their owner alone."""
        if not self.prompts:
            raise RequestError("this run has no hidden prompt to save: its method makes none (KPOP and Locked do)")
        save_prompts(path, self.prompts, self.key_seed, self.erasure_hash, self.facts)


def read_prompts(path: Path) -> Prompts:
    """The hidden prompts in a file; FileFormatError if it is something else."""
    prompts, metadata = load_prompts(path)
    facts = {k: v for k, v in metadata.items() if k in ("hidden_prompt.family", "hidden_prompt.base_hash")}
    seed, made_for = int(metadata["hidden_prompt.key_seed"]), metadata["hidden_prompt.erasure_hash"]
    return Prompts(tuple(prompts), seed, made_for, facts)
