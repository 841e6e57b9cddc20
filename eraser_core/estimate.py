"""How much memory a training step takes, before it is taken: the step is walked through with tensors that have sizes only.

Every operation of one step (forwards, recomputation, backward, gradients) runs on PyTorch's fake tensors, so the peak
is that of the real step's tensors, found in seconds and without the memory. Not in it: the runtime itself, scratch
space inside kernels, and what an allocator wastes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from .backends.diffusers import Budget, DiffusersDenoiser
from .denoiser import Context, NoiseSchedule
from .edits import make_edit
from .errors import RequestError
from .memory_tracker import Tracker, forwards, take_step
from .request import Request
from .training import Learner, TrainingSettings

GUIDED_FILL = 32  # rows of a pool's denoisings: 16, guided
CHUNK = 77
GB = 1e9


@dataclass(frozen=True)
class Need:
    """Bytes: the frozen weights, the edit with its gradient and optimiser state, and all there is at the peak of a step.

    `pools` are the latents that the run holds throughout.
    """

    weights: int
    edit: int
    peak: int
    pools: int = 0


@dataclass(frozen=True)
class Plan:
    """What a step's memory depends on: the network and its precision, the budget, the size, what is trained how.

    `forwards` are (rows, tokens) of the forwards whose graphs are alive at once; `side` is the latents' side; `kept`
    latents lie in the pools meanwhile.
    """

    family: str
    unet: Mapping[str, Any]
    dtype: torch.dtype
    budget: Budget
    side: int
    tune: Any
    rank: int
    moments: int
    forwards: tuple[tuple[int, int], ...]
    kept: int = 0


def plan(denoiser: DiffusersDenoiser, settings: TrainingSettings, learner: type[Learner], request: Request) -> Plan:
    """The plan of a method's step: the student's forward with the retain set's rows, then those with a hidden prompt.

    The pools hold latents for the request's prompts.
    """
    return Plan(
        denoiser.family,
        denoiser.network.config,
        denoiser.network.dtype,
        denoiser.budget,
        denoiser.latent_shape[1],
        settings.tune,
        settings.rank,
        2 if settings.optimizer == "adam" else 0,
        forwards(settings, learner, settings.batch, CHUNK),
        settings.kept_latents(request),
    )


def check(found: Need, device: torch.device) -> str:
    """One line about the need; RequestError when a GPU, which holds the weights already, has not as much left."""
    said = (
        f"a step needs about {found.peak / GB:.2f} GB: {found.weights / GB:.2f} of frozen weights, {found.edit / GB:.3f} "
        f"of what is trained, {found.pools / GB:.3f} of pools, "
        f"{(found.peak - found.weights - found.edit - found.pools) / GB:.2f} of activations"
    )
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if found.peak - found.weights > free:
            raise RequestError(
                f"{said}; {free / GB:.2f} GB are free: use --memory low, a smaller --size, or --tune text"
            )
    return said


class _NoText:
    """Stands where the text encoder is: contexts are made by hand here."""

    tokens_per_chunk = CHUNK

    def encode(self, prompts: Sequence[str]) -> Context:
        raise NotImplementedError

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        raise NotImplementedError

    def excess(self, prompt: str) -> int:
        return 0

    def token_count(self, prompt: str) -> int:
        raise NotImplementedError

    def release(self) -> None:
        pass


def need(of: Plan) -> Need:
    """The memory of one step, of its pool's denoisings or of its backward, whichever takes more."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**{**of.unet, "sample_size": of.side})
    with FakeTensorMode(allow_non_fake_inputs=True), Tracker() as tracker, torch.enable_grad():
        denoiser = _denoiser(of, unet)
        weights = tracker.alive
        edit = make_edit(denoiser, of.tune, of.rank, torch.Generator().manual_seed(0))
        pools = torch.zeros(of.kept, 4, of.side, of.side)
        tracker.peak = tracker.alive
        rows = min(GUIDED_FILL, of.budget.rows_at_once or GUIDED_FILL)
        with torch.no_grad():
            denoiser.predict(*_inputs(of, rows, CHUNK), edit)
        take_step(denoiser, edit, of.moments, (_inputs(of, rows, tokens) for rows, tokens in of.forwards))
        trained = sum(p.numel() * p.element_size() for p in edit.parameters())
        return Need(weights, (2 + of.moments) * trained, tracker.peak, pools.untyped_storage().nbytes())


def _denoiser(of: Plan, unet: UNet2DConditionModel) -> DiffusersDenoiser:
    for module in unet.modules():
        for name, parameter in module.named_parameters(recurse=False):
            module._parameters[name] = nn.Parameter(torch.empty(parameter.shape, dtype=of.dtype), requires_grad=False)
    schedule = NoiseSchedule(torch.zeros(0), "epsilon")
    return DiffusersDenoiser(of.family, unet, _NoText(), _no_pictures, schedule, base_hash="", budget=of.budget)


def _no_pictures() -> Any:
    raise NotImplementedError


def _inputs(of: Plan, rows: int, tokens: int) -> tuple[Tensor, Tensor, Context]:
    z_t, t = torch.zeros(rows, 4, of.side, of.side), torch.zeros(rows, dtype=torch.long)
    words = torch.zeros(rows, tokens, of.unet["cross_attention_dim"])
    if of.unet.get("addition_embed_type") != "text_time":
        return z_t, t, Context(words)
    sizes = 6 * of.unet["addition_time_embed_dim"]
    pooled = torch.zeros(rows, of.unet["projection_class_embeddings_input_dim"] - sizes)
    return z_t, t, Context(words, pooled, torch.zeros(rows, 6))
