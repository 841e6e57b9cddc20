"""For programmers: erase and score in one call each. docs/python.md has worked examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import erasing
from . import methods as registered
from .erasure import Erasure
from .errors import OutputError
from .evaluation.metrics.objects import Rate
from .evaluation.pocket.of_file import score_erasure
from .evaluation.pocket.tasks import Task, settings_for, tasks_for, together
from .evaluation.report.tables import Figure, share
from .hidden_prompt import HiddenPrompt, save_prompts
from .keeping import choose, parted
from .methods import Method
from .models import Model
from .request import Request
from .retain_lists import Kind
from .run_files import results
from .text_readers import TextModel, check_room
from .training import OnStep


@dataclass(frozen=True)
class Result:
    """What `erase` gives. `run` has the losses of every step, the seconds and the rows that went through the network."""

    run: erasing.Erased

    @property
    def erasure(self) -> Erasure:
        """To apply, score, save or share."""
        return self.run.erasure

    @property
    def prompts(self) -> tuple[HiddenPrompt, ...]:
        """The hidden prompts, one a concept; none where the method learns none. Private."""
        return self.run.prompts

    def save(self, folder: Path | str) -> Path:
        """Write CONCEPT.safetensors and, where there is a hidden prompt, private/CONCEPT_hidden_prompt.safetensors.

        The names are those of the command line, cut where many concepts make them long.
        Returns the erasure's path. OutputError where the erasure's file is there already or cannot be written.
        """
        to = results(Path(folder), self._concepts())
        if to.erasure.exists():
            raise OutputError(f"{to.erasure} is there already: choose another folder, or remove it")
        if self.prompts and self.run.key_seed is not None:
            facts = {"hidden_prompt.family": self.erasure.family, "hidden_prompt.base_hash": self.erasure.base_hash}
            save_prompts(to.prompt, self.prompts, self.run.key_seed, self.erasure.hash(), facts)
        self.erasure.save(to.erasure)
        return to.erasure

    def _concepts(self) -> list[str]:
        found: list[str] = json.loads(self.erasure.fact("targets"))
        return found


@dataclass(frozen=True)
class Score:
    """The figures of one concept: shares of n pictures with 95 % intervals. None is what was not asked for.

    `erased` is the share without the concept, `kept` that of other concepts that are right, `recovered` that of the
    concept with its hidden prompt, `forged` with a random one; the `_before` ones are of the untouched model. `row` holds
    every figure, as the command line writes them.
    """

    concept: str
    n: int
    erased: Figure | None
    erased_before: Figure | None
    kept: Figure | None
    kept_before: Figure | None
    recovered: Figure | None
    forged: Figure | None
    row: Mapping[str, Any]


def erase(
    model: Model | TextModel,
    concepts: str | Sequence[str],
    anchors: str | Sequence[str | None] | None = None,
    retain: Sequence[str] | None = None,
    method: str | Method = "kpop",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    kind: Kind | Literal["auto"] = "auto",
) -> Result:
    """Erase concepts from a model, which itself stays as it is. One of `open_reader` takes closed forms alone.

    `concepts`: one or several, each with its synonyms after bars ("church|chapel"). `anchors`: what is drawn in their place,
    one each; None, or one that is None, is chosen as the command line does. `retain`: what training keeps. None is what the
    command line keeps: half of the others on the pocket model, elsewhere the list of the concept's `kind`, which "auto"
    guesses by its words. An empty one keeps nothing. `method`: a registered one's name, or a `Method` of your own. `settings`: what differs
    from the method's defaults on this family. `on_step` hears of every training step and may raise to stop.

    RequestError says in words what cannot be done.
    """
    names = [concepts] if isinstance(concepts, str) else list(concepts)
    given = [anchors] if isinstance(anchors, str) or anchors is None else list(anchors)
    wanted, drawn = parted(names, given)
    chosen = registered.method(method) if isinstance(method, str) else method
    if not isinstance(model, Model):
        read = choose(model, wanted, drawn, retain, seed, kind).request
        check_room(model, read.retain)
        return Result(erasing.solve(model, read, chosen, erasing.configure(chosen, model.family, read, settings or {})))
    request, tasks = _request(model, wanted, drawn, retain, seed, kind)
    values = settings_for(tasks, chosen.settings.model_fields) | dict(settings or {})
    configured = erasing.configure(chosen, model.denoiser.family, request, values)
    return Result(erasing.erase(model.denoiser, request, chosen, configured, on_step=on_step))


def _request(
    model: Model,
    wanted: Sequence[tuple[str, list[str]]],
    anchors: Sequence[str | None],
    retain: Sequence[str] | None,
    seed: int,
    kind: Kind | Literal["auto"],
) -> tuple[Request, list[Task]]:
    if model.concepts is None:
        return choose(model.denoiser, wanted, anchors, retain, seed, kind).request, []
    tasks = tasks_for(model.concepts, model.denoiser, wanted, anchors, retain, seed=seed, n=1)
    return together(tasks, seed), tasks


def score(model: Model, erasure: Erasure, prompts: Sequence[HiddenPrompt] | None = None, n: int = 24) -> list[Score]:
    """The figures of an erasure of the pocket model, one `Score` a concept, of n pictures a figure.

    `prompts` are its hidden prompts, one a concept. RequestError where the model has no judge, the erasure is another
    model's, or a concept is a category, which `python -m eraser_core benchmark pocket` scores.
    """
    return [_score(row) for row in score_erasure(model, erasure, prompts or (), n)]


def _score(row: Mapping[str, Any]) -> Score:
    n = int(row["n_images"])

    def figure(name: str) -> Figure | None:
        return None if row[name] is None else share(Rate(round(row[name] * n), n))

    return Score(
        str(row["erase"]),
        n,
        figure("esr1"),
        figure("esr1_before"),
        figure("psr1"),
        figure("psr1_before"),
        figure("recovery1"),
        figure("forged1"),
        row,
    )
