"""Erasure files combined into one that does to each concept what its own file did, and to the rest nothing.

Every edit of the matrices that read the text acts on text states, so the joint edit is one least-squares solve a layer:

    dW = (1 + b) (sum_i dW_i C_i) (sum_i C_i + w K + l I)^-1                                       (RegMean, arXiv 2212.09849)

    dW_i  the change of file i                    C_i  the second moment of the text states of concept i's prompts
    K     the second moment of what is kept: the retained words and anchors of all files, a general vocabulary, ""
    w     such that w K weighs `kept` times as much as all C_i together;  l likewise, `ridge` times all of it
    b     the overshoot, which makes up for what w K holds back

and the hidden prompt p of file i becomes the p' that the joint network reads as network i read p:

    p' = argmin sum over layers || (W + dW) p' - (W + dW_i) p ||^2

Nothing is trained or drawn.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ..denoiser import Denoiser
from ..erasing import described
from ..erasure import Entry, Erasure, check_fits
from ..errors import RequestError
from ..hidden_prompt import HiddenPrompt
from ..joint_edit import low_rank, refitted
from ..request import Request
from ..text_moments import OVERSHOOT, RIDGE, concept_states, kept_moment, normal_matrix
from ..text_readers import TextReader, places
from .sums import Sums

NAME, PAPER = "combine", "RegMean (arXiv 2212.09849), for erasures"


class CombineSettings(BaseModel):
    """What the joint edit weighs, and how large its file may be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kept: float = Field(
        3.0, gt=0, allow_inf_nan=False, description="weight of what is kept, in times of all concepts together"
    )
    overshoot: float = Field(OVERSHOOT, ge=0, le=4, description="how far past the least squares the change goes")
    ridge: float = Field(RIDGE, gt=0, description="weight of leaving the matrices as they are, in times of the rest")
    general: bool = Field(True, description="keep a general vocabulary too, not only what the files retain")
    rank: int = Field(0, ge=0, description="rank of the file; 0 for as much as holds all but 1e-4 of the change")


def configured(kept: float | None = None, rank: int | None = None, overshoot: float | None = None) -> CombineSettings:
    """The settings with what was given; RequestError names what cannot be."""
    named = {"kept": kept, "rank": rank, "overshoot": overshoot}
    given = {name: value for name, value in named.items() if value is not None}
    try:
        return CombineSettings.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}: {e['msg'].lower()}" for e in error.errors())
        raise RequestError(f"settings of combine: {wrong}") from error


@dataclass(frozen=True)
class Source:
    """One file to combine: its name for messages, what it holds, what it was asked for, and its hash."""

    name: str
    erasure: Erasure
    request: Request
    hash: str


@dataclass(frozen=True)
class Combined:
    """The joint erasure, the hidden prompts fitted to it, and what the low rank left out.

    `error` is the share of the change on the concepts' prompts that the file's rank does not hold; `seconds` are those of
    the solve, `text_seconds` those of reading the prompts with the text encoder.
    """

    erasure: Erasure
    request: Request
    prompts: tuple[HiddenPrompt, ...]
    error: float
    seconds: float
    text_seconds: float
    notes: tuple[str, ...]


def source(name: str, erasure: Erasure) -> Source:
    """A file as one to combine; RequestError where it does not say what it was asked for."""
    if "erasure.request" not in erasure.facts:
        raise RequestError(
            f"{name} does not say which concept it erases: it is a plain LoRA, or some program rewrote it. Apply it beside "
            "the combined file"
        )
    return Source(name, erasure, Request.from_facts(json.loads(erasure.fact("request"))), erasure.hash())


def joint_request(sources: Sequence[Source]) -> tuple[Request, tuple[str, ...]]:
    """All targets, and all that is retained and erased by none; with a note on each word that one keeps and one erases.

    RequestError: no files, a concept that two files erase with different anchors, an anchor that another file erases.
    """
    if len(sources) < 2:
        raise RequestError("two erasures at least are combined: give their files")
    by_phrase: dict[str, Source] = {}
    for one in sources:
        for target in one.request.targets:
            for phrase in (target.concept, *target.synonyms):
                known = by_phrase.setdefault(phrase.lower(), one)
                if known is not one:
                    raise RequestError(f"{known.name} and {one.name} both erase {phrase!r}: leave one of the two out")
    for one in sources:
        for target in one.request.targets:
            other = by_phrase.get(target.anchor.lower())
            if other is not None:
                raise RequestError(
                    f"{one.name} draws {target.anchor!r} in the place of {target.concept!r}, and {other.name} erases it: "
                    "erase one of the two with another anchor"
                )
    erased = {c_e.lower() for one in sources for t in one.request.targets for c_e, _ in t.pairs()} | set(by_phrase)
    notes = [
        f"{one.name} retains {word!r}, which {by_phrase[word.lower()].name} erases: it is erased"
        for one in sources
        for word in one.request.retain
        if word.lower() in by_phrase
    ]
    retain = dict.fromkeys(p for one in sources for p in one.request.retain if p.lower() not in erased)
    targets = tuple(target for one in sources for target in one.request.targets)
    return Request(targets, tuple(retain), sources[0].request.seed), tuple(notes)


def check(denoiser: Denoiser, sources: Sequence[Source]) -> None:
    """RequestError where a file is for another model, or changes what does not read the text."""
    reads = {key for place in places(denoiser) for key in place.weights("xattn-kv")}
    for one in sources:
        check_fits(one.erasure, denoiser.family, dict(denoiser.weights("xattn")) | dict(denoiser.weights("noxattn")))
        if one.erasure.base_hash != denoiser.base_hash:
            raise RequestError(
                f"{one.name} was made on another model of the family {denoiser.family!r}: combine files of one model, the "
                "one given as --model"
            )
        others = [key for key in one.erasure.entries if key not in reads]
        if others:
            raise RequestError(
                f"{one.name} changes {len(others)} weights that do not read the text ({others[0]}, ...): such changes "
                "cannot be combined. Stack that file, or make it again with tune xattn-kv"
            )


def combine(
    denoiser: Denoiser,
    sources: Sequence[Source],
    settings: CombineSettings,
    prompts: Sequence[Sequence[HiddenPrompt]] = (),
    dtype: torch.dtype = torch.float16,
) -> Combined:
    """One erasure that does what each of `sources` did. `prompts` are the hidden prompts of each file, () where it has none.

    RequestError as `joint_request` and `check` say.
    """
    check(denoiser, sources)
    request, notes = joint_request(sources)
    entries: dict[str, Entry] = {}
    error, spent = 0.0, _Spent()
    for place in places(denoiser):
        found, missed = _at(place, sources, request, settings, spent)
        entries |= found
        error = max(error, missed)
    made = described(denoiser, request, NAME, PAPER, settings.model_dump(), entries)
    made = replace(made, facts={**made.facts, "erasure.combined_from": _from(sources)}).to(dtype)
    fitted = tuple(
        refitted(denoiser.weights("xattn-kv"), made.entries, one.erasure.entries, p)
        for one, own in zip(sources, prompts or [()] * len(sources), strict=True)
        for p in own
    )
    return Combined(made, request, fitted, error, spent.solving, spent.reading, notes)


@dataclass
class _Spent:
    """Seconds."""

    reading: float = 0.0
    solving: float = 0.0


def _at(
    place: TextReader, sources: Sequence[Source], request: Request, settings: CombineSettings, spent: _Spent
) -> tuple[dict[str, Entry], float]:
    """The entries of one place, and what their rank misses; none where no file changes anything there."""
    weights = place.weights("xattn-kv")
    if not any(key in weights for one in sources for key in one.erasure.entries):
        return {}, 0.0
    began = time.monotonic()
    states = [torch.cat([concept_states(place, t).s for t in one.request.targets]) for one in sources]
    kept = kept_moment(place, request, settings.general)
    read = time.monotonic()
    c = _moment(states)
    solved = low_rank(_solve(weights, sources, states, c, kept, settings), c, settings.rank)
    spent.reading += read - began
    spent.solving += time.monotonic() - read
    return solved


def _moment(states: Sequence[Tensor]) -> Tensor:
    """The sum of all concepts' moments, [d, d] float64."""
    d = states[0].shape[1]
    total = torch.zeros(d, d, dtype=torch.float64)
    for s in states:
        total.addmm_(s.T, s)
    return total


def _solve(
    weights: Mapping[str, Tensor],
    sources: Sequence[Source],
    states: Sequence[Tensor],
    c: Tensor,
    kept: Tensor,
    settings: CombineSettings,
) -> dict[str, Tensor]:
    """dW [out, d] float32 of every layer that some file changes, on the weights' device."""
    inverse = (1 + settings.overshoot) * torch.linalg.inv(normal_matrix(c, kept, settings.kept, settings.ridge)).float()
    device = next(iter(weights.values())).device
    sums = Sums(weights, device)
    for one, states_of_one in zip(sources, states, strict=True):
        here = {key: entry for key, entry in one.erasure.entries.items() if key in weights}
        sums.add(here, states_of_one.float())
    return {key: total @ inverse.to(device) for key, total in sums.whole().items()}


def _from(sources: Sequence[Source]) -> str:
    """What the file says of where it came from."""
    return json.dumps(
        [
            {
                "title": one.erasure.facts.get("modelspec.title", one.name),
                "hash": one.hash,
                "method": one.erasure.facts.get("erasure.method", ""),
            }
            for one in sources
        ]
    )
