"""What the gradient methods share: the edit and its optimiser, where z_t come from, the retain loss, the loop, resume."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from . import records
from .denoiser import Context, Denoiser, Edit, Tune
from .edits import START_TUNES, make_edit, null_space
from .errors import FileFormatError, RequestError
from .files import read_tensors, tensors_hash, write_tensors
from .hidden_prompt import HiddenPrompt
from .latents import Draw, LatentPool, OnFill, PoolShape, draw_pictures
from .request import Request, Target
from .text_moments import closed_start

CHECKPOINT_SCHEMA = "concept-eraser-checkpoint-1"
CHECKPOINT_EVERY_SECONDS = 60.0


class TrainingSettings(BaseModel):
    """Settings of every gradient method. The defaults are the authors' for Stable Diffusion 1.4 (FIELD of KPOP)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    iterations: int = Field(1000, ge=1, description="training steps")
    batch: int = Field(1, ge=1, description="z_t a step")
    tune: Tune = Field(
        "xattn-kv", description="what is tuned: attn2 K and V, all of attn2, all but attn2, the texts, or everything"
    )
    rank: int = Field(0, ge=0, description="rank of the change; 0 is dense")
    null_space: bool = Field(
        False, description='tune "text" only: confine the map to where retained texts have nothing'
    )
    kept_energy: float = Field(
        0.999, gt=0, lt=1, description="share of the retained texts' energy that null_space keeps"
    )
    start: Literal["model", "closed form"] = Field(
        "model",
        description="what training begins from: the model, or the closed form of all concepts at once (kpop's own choice "
        "for several concepts)",
    )
    confine: float = Field(
        0.0,
        ge=0,
        description="after the training, confine the change to the concepts' texts by least squares: weight of all that is "
        "kept, in times of the concepts; 0 leaves it as it was trained (kpop's own choice: 2)",
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="plain gradient steps (the slides) or Adam")
    eta: float = Field(1e-5, gt=0, description="learning rate of the network")
    retain_weight: float = Field(0.0, ge=0, description="weight of the loss on the retain set; not in the slides")
    guidance: float = Field(3.0, ge=1, description="guidance scale with which z_t are sampled")
    sampler_steps: int = Field(50, ge=2, le=1000, description="steps of those denoisings")
    latents: Literal["pool", "fresh"] = Field("pool", description="z_t from a pool, or denoised anew for every step")
    latents_from: Literal["frozen", "edited"] = Field("frozen", description="which network denoises them")
    pool_size: int = Field(256, ge=1, description="z_t in the pool, for each concept to erase")
    per_trajectory: int = Field(8, ge=1, description="z_t taken from one denoising")
    refresh_every: int = Field(0, ge=0, description="steps between refreshes of a sixteenth of the pool; 0 is never")

    teachers: ClassVar[int] = 1  # frozen predictions that the method stores with each z_t to erase

    def pool_shapes(self, request: Request) -> dict[str, PoolShape]:
        """The pools of a run, of the prompts to erase and, where a retain loss is asked for, of those to retain."""
        shapes = {"erase": self._pool_shape(len(request.targets), sum(len(t.pairs()) for t in request.targets))}
        if request.retain and self.retain_weight:
            shapes["retain"] = self._pool_shape(1, len(request.retain))
        return shapes

    def _pool_shape(self, concepts: int, prompts: int) -> PoolShape:
        """Every prompt is denoised at least once, if need be for fewer z_t each or a somewhat larger pool."""
        if self.latents == "fresh":
            return PoolShape(self.batch, 1, self.sampler_steps, self.guidance)
        size = concepts * self.pool_size
        take = min(self.per_trajectory, self.sampler_steps, -(-size // prompts))
        return PoolShape(max(size, prompts * take), take, self.sampler_steps, self.guidance)

    def suits(self, request: Request) -> None:
        """RequestError where these settings ask for what the request does not hold."""
        if self.retain_weight and not request.retain:
            raise RequestError("retain_weight is set and there is nothing to retain: name concepts to keep")
        if self.tune == "text" and not self.rank:
            raise RequestError('tune "text" is a low-rank map: give it a rank, such as 8')
        if self.confine and self.tune not in START_TUNES:
            raise RequestError('confine is for changes of what reads the text: it needs tune "xattn-kv" or "xattn"')
        if self.null_space and (not request.retain or self.tune != "text"):
            raise RequestError('null_space needs a retain set and tune "text"')

    def texts(self, request: Request) -> list[str]:
        """Every prompt that a run reads."""
        pairs = [prompt for target in request.targets for pair in target.pairs() for prompt in pair]
        return list(dict.fromkeys(["", *pairs, *request.retain]))

    def student_rows(self, batch: int) -> int:
        """Rows of a step's forward of the student, the retain set's in it."""
        return batch * (1 + (self.retain_weight > 0))

    def further_rows(self) -> int:
        """Rows with gradient of a step beside those of the student's forward."""
        return 0

    def relearnt(self) -> int:
        """Steps that follow the confining, in which hidden prompts alone are learnt on."""
        return 0

    @property
    def all_steps(self) -> int:
        """Everything that a run's `on_step` hears of."""
        return self.iterations + (self.relearnt() if self.confine else 0)

    def filled(self, request: Request) -> int:
        """How many z_t come into the pools before the first step."""
        return sum(shape.size for shape in self.pool_shapes(request).values())

    def kept_latents(self, request: Request) -> int:
        """How many latents a run holds from its first step to its last: z_t, and the targets stored with them."""
        return (1 + self.teachers) * self.pool_shapes(request)["erase"].size + self._retained_latents(request)

    def _retained_latents(self, request: Request) -> int:
        shape = self.pool_shapes(request).get("retain")
        return 2 * shape.size if shape else 0


@dataclass(frozen=True)
class Step:
    """What a run reports after every step; `learner` gives the present edit for previews."""

    step: int
    total: int
    losses: Mapping[str, float]
    learner: Learner
    confined: Edit | None = None  # what the learner's edit has become, while its hidden prompts are learnt on


Part = LatentPool | torch.optim.Optimizer | list[Tensor]
OnStep = Callable[[Step], None]


class Learner:
    """The state of a run that a gradient method steps forward. A method subclasses it and writes its equations in `step`.

    `erased` and `neutral` are the contexts c_e and c_n, [m, n, d], of all prompt pairs; `target` [m] says which concept
    a pair belongs to.
    """

    settings: TrainingSettings
    graphs = 1  # forwards of a step whose graphs are alive at once: what its memory depends on
    hides = False  # whether there is a hidden prompt
    adds = False  # whether it is always added to every token, for which texts must have one length

    def __init__(self, denoiser: Denoiser, request: Request, settings: TrainingSettings, key_seed: int | None = None):
        settings.suits(request)
        self.denoiser, self.request, self.key_seed = denoiser, request, key_seed
        self.generator = torch.Generator().manual_seed(request.seed)
        pairs = in_turn(request.targets)
        self.target = torch.tensor([i for i, _, _ in pairs], device=denoiser.device)
        self.erased = denoiser.encode([c_e for _, c_e, _ in pairs])
        self.neutral = denoiser.encode([c_n for _, _, c_n in pairs])
        self.retained = denoiser.encode(request.retain) if request.retain else None
        basis = None
        if settings.null_space and self.retained is not None:
            basis = null_space(denoiser.as_read(self.retained.tokens), settings.kept_energy)
        start = closed_start(denoiser, request, denoiser.device) if settings.start == "closed form" else None
        self.edit = make_edit(denoiser, settings.tune, settings.rank, self.generator, basis, start)
        self.optimizer = optimizer(settings.optimizer, self.edit.parameters(), settings.eta)
        self._negative = denoiser.encode([""])
        self.pools: dict[str, LatentPool] = {}
        if self.retained is not None and settings.retain_weight:
            self.pools["retain"] = self.pool(self.retained, self.retained)

    def pool(self, contexts: Context, *teachers: Context) -> LatentPool:
        """A pool of z_t for some prompts, with the frozen network's predictions at each of the teachers; see `begin`."""
        shape = self.settings.pool_shapes(self.request)["retain" if contexts is self.retained else "erase"]
        return LatentPool(self.denoiser, contexts, teachers, self._negative, shape, self.generator)

    def begin(self, on_fill: OnFill | None = None) -> None:
        """Fill the pools; a resumed run loads them instead. `on_fill` hears of every z_t of them all."""
        for pool in self.pools.values():
            pool.fill(None, on_fill)

    def draw_pictures(self, z_0: Tensor, contexts: Context, guidance: float, on_fill: OnFill | None) -> None:
        """Fill z_0 [n, c, h, w] with pictures of the frozen network, row i of context i modulo their number."""
        steps = self.settings.sampler_steps
        draw_pictures(self.denoiser, z_0, contexts, self._negative, steps, guidance, self.generator, on_fill)

    def draw(self, pool: LatentPool, step: int, rows: int = 0) -> Draw:
        """This step's batch, or as many rows, after whatever refresh is due."""
        s = self.settings
        edit: Edit | None = self.edit if s.latents_from == "edited" else None
        if s.latents == "fresh":
            if step > 0:
                pool.fill(edit)
        elif s.refresh_every and step and step % s.refresh_every == 0:
            pool.refresh(-(-pool.size // 16), edit)
        return pool.draw(rows or s.batch)

    def predict(self, z_t: Tensor, t: Tensor, context: Context) -> Tensor:
        """eps_theta', the network with the edit on."""
        return self.denoiser.predict(z_t, t, context, self.edit)

    def kept(self, step: int) -> Draw | None:
        """This step's batch of kept prompts; None without a retain loss. Once a step: a refresh may be due."""
        return self.draw(self.pools["retain"], step) if "retain" in self.pools else None

    def predict_and_retain(
        self, z_t: Tensor, t: Tensor, context: Context, step: int, kept: Draw | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """eps_theta'(z_t, c) and, in the same forward, the retain loss under the name "retain" if one is asked for.

        It is the mean over kept prompts c_r of || eps_theta'(z_t, c_r) - eps_theta(z_t, c_r) ||^2, with z_t from c_r's
        own denoisings. It is not in the slides. `kept` is this step's batch where the method has it already.
        """
        kept, b = kept or self.kept(step), len(t)
        if kept is None:
            return self.predict(z_t, t, context), {}
        out = self.predict(torch.cat([z_t, kept.z_t]), torch.cat([t, kept.t]), Context.cat([context, kept.context]))
        return out[:b], {"retain": F.mse_loss(out[b:], kept.targets[0])}

    def descend(self, losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
        """One optimiser step of the edit down the weighted sum of the losses (weight 1 where none is given)."""
        weights = {"retain": self.settings.retain_weight} | dict(weights)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum().backward()
        sizes = [p.grad.abs().max() for p in self.edit.parameters() if p.grad is not None]
        if not bool(torch.stack(sizes).isfinite().all()):  # Adam would keep it for the rest of the run
            raise RequestError(
                "a gradient left the range of the numbers that the network computes in: compute in bf16 or fp32, or "
                "lower the learning rate eta"
            )
        self.optimizer.step()

    def step(self, step: int) -> dict[str, float]:
        """One iteration; returns the losses by name."""
        raise NotImplementedError

    def prompts(self) -> list[HiddenPrompt]:
        """The hidden prompts as they stand, one a target, where the method learns any."""
        return []

    def relearn(
        self, edit: Edit, prompts: Sequence[HiddenPrompt], on_step: Callable[[int], None]
    ) -> list[HiddenPrompt]:
        """The hidden prompts, learnt on from these under a network that no longer changes.

        `on_step` hears how many of the `relearnt` steps are done, and may raise to stop.
        """
        return list(prompts)

    def parts(self) -> dict[str, Part]:
        """What a checkpoint must hold besides the generator."""
        return {"edit": self.edit.parameters(), "optimizer": self.optimizer, **self.pools}

    def state(self) -> dict[str, Tensor]:
        """All of `parts` as tensors by flat names."""
        state = {"generator": self.generator.get_state()}
        for name, part in self.parts().items():
            state |= {f"{name}.{key}": tensor for key, tensor in _part_state(part).items()}
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.generator.set_state(state["generator"])
        for name, part in self.parts().items():
            own = {k.removeprefix(name + "."): v for k, v in state.items() if k.startswith(name + ".")}
            _load_part(part, own)


def in_turn(targets: Sequence[Target]) -> list[tuple[int, str, str]]:
    """(number of the target, c_e, c_n) of every prompt pair, a phrase of every target in turn.

    A pool denoises prompts in this order: one that is too small for all of them has some of every phrase.
    """
    phrases = []
    for i, target in enumerate(targets):
        pairs, n = target.pairs(), len(target.templates)
        phrases += [[(i, *pair) for pair in pairs[first : first + n]] for first in range(0, len(pairs), n)]
    return [pair for rank in zip_longest(*phrases) for pair in rank if pair is not None]


def _part_state(part: Part) -> dict[str, Tensor]:
    if isinstance(part, LatentPool):
        return part.state()
    if isinstance(part, list):
        return {str(i): tensor for i, tensor in enumerate(part)}
    moments = part.state_dict()["state"]
    return {f"{i}.{key}": value for i, values in moments.items() for key, value in values.items() if value is not None}


def _load_part(part: Part, state: dict[str, Tensor]) -> None:
    if isinstance(part, LatentPool):
        part.load_state(state)
    elif isinstance(part, list):
        with torch.no_grad():
            for i, tensor in enumerate(part):
                tensor.copy_(state[str(i)])
    else:
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = tensor
        part.load_state_dict({"state": moments, "param_groups": part.state_dict()["param_groups"]})


def optimizer(kind: Literal["adam", "sgd"], parameters: list[Tensor], rate: float) -> torch.optim.Optimizer:
    """Adam, or plain gradient steps as eq. 7 and 8 of the slides write them."""
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=rate)
    return torch.optim.Adam(parameters, lr=rate)


def save_checkpoint(path: Path, learner: Learner, facts: Mapping[str, Any]) -> None:
    """Write the run so far, atomically. It holds the hidden prompt: as private as that."""
    state, said = learner.state(), json.dumps(facts)
    metadata = {"schema": CHECKPOINT_SCHEMA, "facts": said, "hash": _checkpoint_hash(state, said)}
    write_tensors(path, state, metadata, private=True)


def _checkpoint_hash(state: Mapping[str, Tensor], facts: str) -> str:
    return hashlib.sha256((tensors_hash(state) + facts).encode("utf-8")).hexdigest()


def read_checkpoint(path: Path) -> tuple[records.CheckpointRecord, dict[str, Tensor]]:
    """(what the run was asked for and its losses so far, state) of an interrupted run.

    FileFormatError if the file is damaged: nothing can be computed anew that is as good, so nothing is guessed.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("schema") != CHECKPOINT_SCHEMA:
        raise FileFormatError(f"{path} is no checkpoint of an erasing: give the folder of an interrupted run")
    said = metadata.get("facts", "")
    if metadata.get("hash") != _checkpoint_hash(tensors, said):
        raise FileFormatError(
            f"{path} is damaged, or was left by an older version: begin anew with the same command and --force"
        )
    return records.read(records.CheckpointRecord, json.loads(said), path), tensors


def train(
    learner: Learner,
    on_step: OnStep | None = None,
    checkpoint: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    done: Sequence[Mapping[str, float]] = (),
) -> list[Mapping[str, float]]:
    """Step the learner to the end; returns the losses of every iteration. `done` holds those of a resumed run's.

    `on_step` is called after every step and may raise to stop. With a `checkpoint` path the run so far is written
    there before the first step, every minute, and when `on_step` raises.
    """
    total, losses, saved = learner.settings.all_steps, list(done), time.monotonic()
    if checkpoint and not done:  # the pools are filled: a run that is killed in its first minute goes on from here
        save_checkpoint(checkpoint, learner, {**(facts or {}), "losses": losses})
    for step in range(len(losses), learner.settings.iterations):
        losses.append(learner.step(step))
        try:
            if on_step:
                on_step(Step(step + 1, total, losses[-1], learner))
        except BaseException:
            if checkpoint:
                save_checkpoint(checkpoint, learner, {**(facts or {}), "losses": losses})
            raise
        if checkpoint and time.monotonic() - saved > CHECKPOINT_EVERY_SECONDS:
            save_checkpoint(checkpoint, learner, {**(facts or {}), "losses": losses})
            saved = time.monotonic()
    if checkpoint and learner.settings.confine:  # what follows may be stopped too
        save_checkpoint(checkpoint, learner, {**(facts or {}), "losses": losses})
    return losses
