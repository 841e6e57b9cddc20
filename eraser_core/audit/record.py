"""What an audit found, as frozen values that are written to audit.json and read back when it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ..errors import OutputError
from ..evaluation.metrics.objects import Rate
from ..records import Record, read, read_json

SCHEMA: Literal["concept-eraser-audit-1"] = "concept-eraser-audit-1"
SEVERAL = "concept-eraser-audits-1"  # of the file that says where the audits of several concepts are
FILE, PAGE, PICTURES = "audit.json", "index.html", "pictures"
BY_NAME = "by_name"
SUMMARY = f"{PICTURES}/summary.png"
TODO = "begin anew with --force"
AGAIN = "choose another folder, or replace it with --force"
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

UNDOES: tuple[Answer, ...] = ("comes back", "comes back in part")


class Share(Record):
    """`hits` of `n` pictures show the concept."""

    hits: int = Field(ge=0)
    n: int = Field(ge=1)

    @property
    def rate(self) -> Rate:
        """With its value and 95 % interval."""
        return Rate(self.hits, self.n)


class Row(Record):
    """One way of an attack, on the erased and the untouched model and on a concept that the model never knew.

    `drawn` says whether the attack's picture has a row of it.
    """

    label: str
    way: str
    answer: Answer
    erased: Share | None = None
    untouched: Share | None = None
    unknown: Share | None = None
    given: Share | None = None
    said: str = ""
    meant: bool = False
    drawn: bool = False

    @property
    def undoes(self) -> bool:
        """Whether this way brings the concept back without being meant to."""
        return self.answer in UNDOES and not self.meant


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
    beside_hash: str = ""

    def goes_on(self, before: Setting) -> bool:
        """Whether an audit of `before` may go on as this one: all is the same, or the hidden prompt is new."""
        known = self.prompt_hash and before.prompt_hash
        return (self if known else self.model_copy(update={"prompt_hash": before.prompt_hash})) == before

    @property
    def key(self) -> str:
        """Eight letters that are the same for what goes on as the same audit, and else others."""
        return key_of([self])


def key_of(settings: Sequence[Setting]) -> str:
    """The same for several concepts."""
    said = json.dumps([setting.model_dump(exclude={"prompt_hash"}, exclude_defaults=True) for setting in settings])
    return hashlib.sha256(said.encode("utf-8")).hexdigest()[:8]


class Audit(Record):
    """All that is known. `plain` and `plain_untouched` are the shares when the concept is asked for by its name, `picture`
    what is drawn then."""

    schema_: Literal["concept-eraser-audit-1"] = Field(SCHEMA, alias="schema")
    name: str
    setting: Setting
    unknown: str
    judged: bool
    plain: Share | None = None
    plain_untouched: Share | None = None
    note: str = ""
    picture: str = ""
    verdict: str = ""
    attacks: tuple[Done, ...] = ()

    def of(self, name: str) -> Done | None:
        """The attack of this name, if it was run."""
        return next((done for done in self.attacks if done.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """The value of audit.json."""
        return self.model_dump(mode="json", by_alias=True)


class Audits(Record):
    """The audits of a file's concepts. `verdict` is that of the worst."""

    name: str
    verdict: str
    audits: tuple[Audit, ...]


def check_kind(out: Path, *, several: bool) -> None:
    """OutputError where a folder holds an audit of one concept and several are asked for, or the other way round."""
    said = _said(out)
    if isinstance(said, dict) and (said.get("schema") == SEVERAL) != several:
        raise OutputError(f"{out} holds an audit of something else: {AGAIN}")


def earlier(out: Path) -> Audit | None:
    """The audit of one concept in a folder; None where there is none. FileFormatError where its file is damaged."""
    said = _said(out)
    return None if said is None else read(Audit, said, out / FILE, TODO)


def _said(out: Path) -> Any:
    return read_json(out / FILE, TODO) if (out / FILE).is_file() else None
