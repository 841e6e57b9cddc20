"""What an audit found, as frozen values that are written to audit.json and read back when it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..evaluation.metrics.objects import Rate
from ..records import Record, read, read_json

SCHEMA: Literal["concept-eraser-audit-1"] = "concept-eraser-audit-1"
FILE, PAGE, PICTURES = "audit.json", "index.html", "pictures"
Answer = Literal[
    "comes back",
    "comes back in part",
    "as by its name alone",
    "as a model that never knew it",
    "as what it was given shows",
    "not undone",
    "cannot be told",
    "not judged",
]


class Share(Record):
    """`hits` of `n` pictures show the concept."""

    hits: int = Field(ge=0)
    n: int = Field(ge=1)

    @property
    def rate(self) -> Rate:
        """With its value and 95 % interval."""
        return Rate(self.hits, self.n)


class Row(Record):
    """One way of an attack, on the erased and the untouched model and on a concept that the model never knew."""

    label: str
    way: str
    answer: Answer
    erased: Share | None = None
    untouched: Share | None = None
    unknown: Share | None = None
    given: Share | None = None
    said: str = ""
    meant: bool = False

    @property
    def undoes(self) -> bool:
        """Whether this way brings the concept back without being meant to."""
        return self.answer in ("comes back", "comes back in part") and not self.meant


class Done(Record):
    """One attack that was run. `left_out` says why it had no meaning; `picture` is a file beside audit.json."""

    name: str
    asks: str
    paper: str
    budget: str
    verdict: str
    rows: tuple[Row, ...] = ()
    left_out: str = ""
    picture: str = ""
    seconds: float = 0.0
    rows_with_gradient: int = 0
    rows_without_gradient: int = 0


class Setting(Record):
    """What makes two audits the same: whoever goes on with one has to ask for the same."""

    erasure_hash: str
    base_hash: str
    concept: str
    anchor: str
    images: int
    seed: int
    suite_seed: int
    steps: int
    guidance: float
    prompt_hash: str = ""

    def goes_on(self, before: Setting) -> bool:
        """Whether an audit of `before` may go on as this one: all is the same, or the hidden prompt is new."""
        known = self.prompt_hash and before.prompt_hash
        return (self if known else self.model_copy(update={"prompt_hash": before.prompt_hash})) == before


class Audit(Record):
    """All that is known. `plain` and `plain_untouched` are the shares when the concept is asked for by its name."""

    schema_: Literal["concept-eraser-audit-1"] = Field(SCHEMA, alias="schema")
    name: str
    setting: Setting
    unknown: str
    judged: bool
    plain: Share | None = None
    plain_untouched: Share | None = None
    verdict: str = ""
    attacks: tuple[Done, ...] = ()

    def of(self, name: str) -> Done | None:
        """The attack of this name, if it was run."""
        return next((done for done in self.attacks if done.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """The value of audit.json."""
        return self.model_dump(mode="json", by_alias=True)


def earlier(out: Path) -> Audit | None:
    """The audit in a folder; None where there is none. FileFormatError where its file is damaged."""
    path = out / FILE
    if not path.is_file():
        return None
    todo = "begin anew with --force"
    return read(Audit, read_json(path, todo), path, todo)
