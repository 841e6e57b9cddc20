"""The two files that an erasing is for, and where they lie: one to share, one to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .evaluation.suites.manifest import slug
from .pocket.concepts import without_article

# Whoever uploads the files of a run's folder uploads none of the private one, which holds the keys.
PRIVATE = "private"
LONGEST = 60  # characters of a name, so that a path fits everywhere


@dataclass(frozen=True)
class Results:
    """The two files that a run of these concepts is for; the second one only where the method learns a hidden prompt."""

    out: Path
    name: str

    @property
    def erasure(self) -> Path:
        """To share."""
        return self.out / f"{self.name}.safetensors"

    @property
    def prompt(self) -> Path:
        """To keep."""
        return self.out / PRIVATE / f"{self.name}_hidden_prompt.safetensors"


def results(out: Path, concepts: Sequence[str]) -> Results:
    """The files in `out` of a run that erases these concepts, which may have their synonyms after bars."""
    names = [slug(without_article(concept.partition("|")[0].strip())) for concept in concepts]
    return Results(out, "_".join(filter(None, names))[:LONGEST].rstrip("_.-") or "concept")
