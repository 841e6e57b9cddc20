"""The one seam: what every method, sampler and metric knows of a diffusion model.

Symbols follow the papers: z_t is a noised latent [b, c, h, w], t an integer timestep [b], c the text context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .text_layers import in_attention, reads_text

Prediction = Literal["epsilon", "v_prediction", "flow"]
Tune = Literal["xattn-kv", "xattn", "noxattn", "text", "all"]


@dataclass(frozen=True)
class Context:
    """Whatever conditions the network: `tokens` [b, n, d], and in some families `pooled` [b, p] and `size_ids` [b, 6].

    `mask` [b, n] is there where texts have lengths of their own: False where a shorter one is filled up to the longest.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    size_ids: Tensor | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> Context:
        """The chosen rows of the batch."""
        beside = (self.pooled, self.size_ids, self.mask)
        return Context(self.tokens[rows], *(None if part is None else part[rows] for part in beside))

    def expand(self, b: int) -> Context:
        """One row repeated b times."""
        return self[torch.zeros(b, dtype=torch.long, device=self.tokens.device)]

    def with_tokens(self, tokens: Tensor) -> Context:
        """The same conditioning with other tokens; the pooled embedding and the sizes stay. Further ones stand behind the text."""
        mask, further = self.mask, tokens.shape[1] - self.tokens.shape[1]
        return replace(self, tokens=tokens, mask=None if mask is None else F.pad(mask, (0, further), value=True))

    @staticmethod
    def cat(contexts: Sequence[Context]) -> Context:
        """Stack batches of contexts: of one length n, or with masks, which are filled up to the longest."""

        def join(parts: list[Tensor | None]) -> Tensor | None:
            present = [p for p in parts if p is not None]
            return torch.cat(present) if present else None

        if all(c.mask is not None for c in contexts):
            contexts = [c._filled(max(c.tokens.shape[1] for c in contexts)) for c in contexts]
        return Context(
            torch.cat([c.tokens for c in contexts]),
            join([c.pooled for c in contexts]),
            join([c.size_ids for c in contexts]),
            join([c.mask for c in contexts]),
        )

    def _filled(self, n: int) -> Context:
        further = n - self.tokens.shape[1]
        mask = None if self.mask is None else F.pad(self.mask, (0, further), value=False)
        return replace(self, tokens=F.pad(self.tokens, (0, 0, 0, further)), mask=mask)


class Schedule(Protocol):
    """The forward process: z_t = a_t z_0 + s_t eps at the timesteps 0 (picture) to `steps` - 1 (noise)."""

    @property
    def prediction(self) -> Prediction:
        """What the network's native output is an estimate of."""

    @property
    def steps(self) -> int:
        """How many timesteps there are."""

    def tables(self) -> Mapping[str, Tensor]:
        """The numbers that it is made of, by name: what tells two schedules apart."""

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t, each of t's shape, float64 on the CPU."""

    def signal_and_noise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t for t [b], each [b, 1, 1, 1], float32 on t's device."""

    def split(self, prediction: Tensor, z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(z_0, eps) that a native prediction at z_t implies."""

    def native(self, z_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The native prediction of a network that knows z_0 and eps [b, c, h, w]: what training and attacks aim at."""

    def grid(self, steps: int) -> Tensor:
        """`steps` timesteps from noise to picture, the first of them the last timestep."""


def trailing(total: int, steps: int) -> Tensor:
    """`steps` of `total` timesteps from noise to picture, evenly spaced and ending the first step at T - 1."""
    return (torch.arange(steps, 0, -1, dtype=torch.float64) * total / steps).round().long() - 1


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process of a variance-preserving diffusion model: z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps.

    `alphas_cumprod` is abar, [T], float64 on the CPU (Ho et al., arXiv 2006.11239, eq. 4). `prediction` is epsilon or v.
    """

    alphas_cumprod: Tensor
    prediction: Prediction

    @staticmethod
    def scaled_linear(
        start: float = 0.00085, end: float = 0.012, steps: int = 1000, prediction: Prediction = "epsilon"
    ) -> NoiseSchedule:
        """Stable Diffusion's own: betas linear in their square root."""
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
        return NoiseSchedule(torch.cumprod(1 - betas, 0), prediction)

    @property
    def steps(self) -> int:
        return len(self.alphas_cumprod)

    def tables(self) -> Mapping[str, Tensor]:
        return {"alphas_cumprod": self.alphas_cumprod}

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t)."""
        abar = self.alphas_cumprod[t.cpu()]
        return abar.sqrt(), (1 - abar).sqrt()

    def signal_and_noise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _columns(self.levels(t), t)

    def split(self, prediction: Tensor, z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(z_0, eps) that a native prediction at z_t implies (v: Salimans and Ho, arXiv 2202.00512, app. D)."""
        a, s = self.signal_and_noise(t)
        if self.prediction == "v_prediction":
            return a * z_t - s * prediction, s * z_t + a * prediction
        return (z_t - s * prediction) / a, prediction

    def native(self, z_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        if self.prediction == "epsilon":
            return eps
        a, s = self.signal_and_noise(t)
        return a * eps - s * z_0

    def grid(self, steps: int) -> Tensor:
        """Evenly spaced ("trailing")."""
        return trailing(self.steps, steps)


@dataclass(frozen=True)
class FlowSchedule:
    """The forward process of flow matching: z_t = (1 - s_t) z_0 + s_t eps, and the network predicts eps - z_0.

    `sigmas` is s, [T], float64 on the CPU, growing to 1 (Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003).
    """

    sigmas: Tensor

    @staticmethod
    def shifted(shift: float, steps: int = 1000) -> FlowSchedule:
        """s = shift u / (1 + (shift - 1) u) for even u: more of the steps are noisy (Esser et al., arXiv 2403.03206, eq. 23)."""
        u = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        return FlowSchedule(shift * u / (1 + (shift - 1) * u))

    @property
    def prediction(self) -> Prediction:
        return "flow"

    @property
    def steps(self) -> int:
        return len(self.sigmas)

    def tables(self) -> Mapping[str, Tensor]:
        return {"sigmas": self.sigmas}

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 - s_t and s_t."""
        s = self.sigmas[t.cpu()]
        return 1 - s, s

    def signal_and_noise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _columns(self.levels(t), t)

    def split(self, prediction: Tensor, z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        a, s = self.signal_and_noise(t)
        return z_t - s * prediction, z_t + a * prediction

    def native(self, z_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        return eps - z_0

    def grid(self, steps: int) -> Tensor:
        """Even in u: the shift makes the steps in s uneven, as the host's scheduler "simple" does."""
        return trailing(self.steps, steps)


def _columns(levels: tuple[Tensor, Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    a, s = (level.view(-1, 1, 1, 1).to(t.device, torch.float32) for level in levels)
    return a, s


class Edit(Protocol):
    """A change of some weights, or of the text space; trainable or frozen."""

    @property
    def keys(self) -> Sequence[str]:
        """Canonical names of the parameters it changes."""

    def weight(self, key: str, weight: Tensor) -> Tensor:
        """W' for a frozen W, in W's shape and dtype."""

    def tokens(self, tokens: Tensor) -> Tensor:
        """c' for the tokens c [b, n, d] of a context."""


@dataclass
class Rows:
    """The unit of cost: forward rows (one sample through the network once), with and without gradient apart."""

    grad: int = 0
    no_grad: int = 0

    def add(self, b: int) -> None:
        if torch.is_grad_enabled():
            self.grad += b
        else:
            self.no_grad += b


class Denoiser(Protocol):
    """A text-to-image model whose frozen weights are the teacher; the student is the same network under an edit."""

    family: str
    base_hash: str
    schedule: Schedule
    latent_shape: tuple[int, int, int]
    tokens_per_chunk: int  # 0: texts have lengths of their own, and a hidden prompt stands once behind each
    device: torch.device
    rows: Rows

    @property
    def network(self) -> nn.Module:
        """The network that runs, for whoever listens to its layers."""

    def encode(self, prompts: Sequence[str]) -> Context:
        """Contexts [len(prompts), n, d] of whole prompts, without gradient."""

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        """Tokens [len(prompts), n, d] as `encode` has them: text encoders are causal, so those after n change nothing."""

    def as_read(self, tokens: Tensor) -> Tensor:
        """Tokens [..., d] as the matrices that read text are given them: behind the model's norm, where there is one."""

    def token_count(self, prompt: str) -> int:
        """How many of a prompt's tokens are its words and the start token before them."""

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        """Frozen parameters by canonical name (the host's: `diffusion_model. ... .attn2.to_k.weight`)."""

    def file_names(self) -> Mapping[str, str]:
        """Canonical module name -> kohya's name of it (`lora_unet_...`)."""

    def predict(self, z_t: Tensor, t: Tensor, context: Context, edit: Edit | None = None) -> Tensor:
        """The network's native output [b, c, h, w] (see `schedule.prediction`), differentiable in context and edit."""


def tuned(key: str, tune: Tune) -> bool:
    """Whether a parameter, by its canonical name, is among those that `tune` names (text_layers.py)."""
    reads = reads_text(key)
    if tune in ("xattn-kv", "text"):
        return reads
    if tune == "all":
        return True
    return (reads or in_attention(key)) == (tune == "xattn")
