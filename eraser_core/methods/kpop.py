"""KPOP: erasing with a learnable prompt (Bui et al., arXiv 2403.12326; the slides' equations 5 to 8).

    theta    the frozen foundation network: the network with the edit off
    theta'   the sanitized network: the same network with the edit on
    c_e      the concept to erase, in a prompt;  c_n  the neutral or anchor concept in the same prompt
    p        the learnable prompt: k tokens in the text-embedding space, one p a concept, shared by all blocks
    eps(c, p)  the network's output with the context c extended by p
    b        the overshoot: how far past the anchor the target goes. The papers have b = 0

||.||^2 is the mean over a latent's elements, as in the authors' code.

What is left of eps_theta'(c_e) - eps_theta(c_n) points back at the concept, and a sampler with c_n as its negative prompt
multiplies it by the guidance scale: the concept returns. So the target is not eps_theta(c_n) alone but

    eps_n = eps_theta(c_n) - b (eps_theta(c_e) - eps_theta(c_n)),

from which the rest points away from the concept. By itself it costs look-alikes. With a change that is confined to the
concept's texts (joint_edit.py) it does not, so both are the default for one concept (docs/results/overshoot.md). The papers'
way is b = 0 and `confine` 0.

Equations 6 to 8 look at eps_theta'(c, p) for c = c_e alone, so p may paint the concept over every other prompt. A key should
give the model back as it was. `opens` weighs one more term in both steps, over other prompts c_r at z_t of their own
denoisings, and over the empty one at c_e's, which is the other half of the guidance (docs/results/opening.md):

    || eps_theta'(c_r, p) - eps_theta(c_r) ||^2
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..denoiser import Context, Denoiser, Edit
from ..edits import START_TUNES
from ..hidden_prompt import HiddenPrompt, Mechanism, extend, first_prompt
from ..latents import Draw
from ..overshoot import overshoot_field, past
from ..request import Request
from ..training import Learner, Part, TrainingSettings, optimizer

CONFINE, PAST = 2.0, 0.5
RELEARNT = 4  # the part of the iterations for p alone, after the change was confined


def usual(concepts: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """KPOP's own choices for so many concepts, beside the settings `values` that were given.

    Ten concepts trained at once from the model as it is leave half of the others right; from the closed form, and confined to
    the concepts' texts, nearly all (docs/results/many.md). One concept is moved past its anchor, and confined. A prompt that
    opens the model was measured without (docs/results/opening.md). Changes of what does not read the text know neither.
    """
    tune, paints = values.get("tune", "xattn-kv"), str(values.get("opens", 0)) in ("0", "0.0")
    if concepts > 1:
        return {"start": "closed form", "confine": CONFINE} if tune in START_TUNES else {}
    return {"confine": CONFINE, "overshoot": PAST} if tune == "xattn-kv" and paints else {}


class NaiveSettings(TrainingSettings):
    """Eq. 5 alone: KPOP without its prompt, the control that shows what p does."""

    teachers: ClassVar[int] = 2  # at c_n and at c_e
    overshoot: float = overshoot_field()


class KPOPSettings(TrainingSettings):
    """KPOP. Defaults: the authors' Imagenette settings, as far as their result files name them."""

    teachers: ClassVar[int] = 2
    overshoot: float = overshoot_field()
    mechanism: Mechanism = Field("concatenative", description="how p joins the context: cat(C, p) or C + p")
    k: int = Field(
        10, ge=1, le=4096, description="tokens of the hidden prompt; additive prompts have one a context token instead"
    )
    lambda_: float = Field(0.1, ge=0, alias="lambda", description="weight of keeping the concept reachable through p")
    eta_p: float = Field(1e-5, gt=0, description="learning rate of the hidden prompt")
    opens: float = Field(
        0.0,
        ge=0,
        description="weight of other prompts staying as they were with p: p opens the model and paints nothing over it; "
        "0 is the papers' way",
    )
    recovery_target: Literal["erased", "neutral"] = Field(
        "erased",
        description="what eps(c_e, p) is trained to: eq. 8 says eps(c_e); the slides' gradient line says eps(c_n), "
        "with which p recovers nothing",
    )

    model_config = TrainingSettings.model_config | {"populate_by_name": True}

    def further_rows(self) -> int:
        """Those with p, in both steps."""
        return 2 * self.batch * (1 + (self.opens > 0))

    def relearnt(self) -> int:
        """A quarter of the training's."""
        return self.iterations // RELEARNT

    def kept_latents(self, request: Request) -> int:
        """With `opens` the frozen network's prediction at the empty prompt is kept too."""
        return super().kept_latents(request) + (self.pool_shapes(request)["erase"].size if self.opens else 0)


class Naive(Learner):
    """min over theta' of || eps_theta'(c_e) - eps_n ||^2 (eq. 5 for b = 0), plus the retain loss if it is asked for."""

    def __init__(self, denoiser: Denoiser, request: Request, settings: NaiveSettings, key_seed: int | None = None):
        self.settings: NaiveSettings = settings
        super().__init__(denoiser, request, settings)
        self.pools["erase"] = self.pool(self.erased, self.neutral, self.erased)

    def step(self, step: int) -> dict[str, float]:
        draw = self.draw(self.pools["erase"], step)
        neutral, erased = draw.targets
        student, losses = self.predict_and_retain(draw.z_t, draw.t, draw.context, step)
        losses["erase"] = F.mse_loss(student, past(neutral, erased, self.settings.overshoot))
        self.descend(losses, {})
        return {name: float(loss.detach()) for name, loss in losses.items()}


class KPOP(Learner):
    """Transfer what theta' still knows of the concept into p, then remove it from theta' (slides, "Proposed method")."""

    graphs = 2  # eq. 8: with p and without
    hides = True

    def __init__(self, denoiser: Denoiser, request: Request, settings: KPOPSettings, key_seed: int | None = None):
        self.settings: KPOPSettings = settings
        chunk = denoiser.tokens_per_chunk
        start, key_seed = first_prompt(
            len(request.targets), settings.k, settings.mechanism, denoiser.encode([""]).tokens, chunk, key_seed
        )
        super().__init__(denoiser, request, settings, key_seed)
        self.p = start.requires_grad_()
        self.p_optimizer = optimizer(settings.optimizer, [self.p], settings.eta_p)
        self.empty = denoiser.encode([""]).expand(len(self.erased))
        teachers = (self.neutral, self.erased, self.empty) if settings.opens else (self.neutral, self.erased)
        self.pools["erase"] = self.pool(self.erased, *teachers)

    def parts(self) -> dict[str, Part]:
        return super().parts() | {"p": [self.p], "p_optimizer": self.p_optimizer}

    def with_p(self, context: Context, p: Tensor) -> Context:
        """(c, p) for p [b, k, d]."""
        return extend(context, p, self.settings.mechanism, self.denoiser.tokens_per_chunk)

    def others(self, draw: Draw, kept: Draw | None, step: int) -> Draw:
        """b rows that p must leave as they are, with their one target: prompts to keep and the empty one, in turn.

        Where nothing is retained the anchors are kept. Those and the empty prompt have the z_t of c_e.
        """
        neutral, _, empty = draw.targets
        if step % 2:
            return replace(draw, context=self.empty[draw.row], targets=(empty,))
        return kept or replace(draw, context=self.neutral[draw.row], targets=(neutral,))

    def opening(
        self, draw: Draw, others: Draw | None, p: Tensor, target: Tensor, edit: Edit | None = None
    ) -> dict[str, Tensor]:
        """Under "recover" || eps_theta'(c_e, p) - target ||^2 and, in the same forward, under "opens" that of the others.

        p [concepts, k, d]; the i-th of the others takes the p of the i-th row's concept. theta' is the network that is
        trained, or that of `edit`.
        """
        p, b, edit = p[self.target[draw.row]], len(draw.t), edit or self.edit
        if others is None:
            reached = self.denoiser.predict(draw.z_t, draw.t, self.with_p(draw.context, p), edit)
            return {"recover": F.mse_loss(reached, target)}
        context = self.with_p(Context.cat([draw.context, others.context]), torch.cat([p, p]))
        out = self.denoiser.predict(torch.cat([draw.z_t, others.z_t]), torch.cat([draw.t, others.t]), context, edit)
        return {"recover": F.mse_loss(out[:b], target), "opens": F.mse_loss(out[b:], others.targets[0])}

    def transfer(self, draw: Draw, others: Draw | None, edit: Edit | None = None) -> float:
        """One step of p alone; returns || eps_theta'(c_e, p) - eps_theta(c_e) ||^2 before it."""
        reached = self.opening(draw, others, self.p, draw.targets[1], edit)
        loss = reached["recover"] + self.settings.opens * reached.get("opens", 0.0)
        (self.p.grad,) = torch.autograd.grad(loss, [self.p])
        self.p_optimizer.step()
        return float(reached["recover"].detach())

    def relearn(
        self, edit: Edit, prompts: Sequence[HiddenPrompt], on_step: Callable[[int], None]
    ) -> list[HiddenPrompt]:
        """Eq. 6 and 7 alone, begun at these prompts, on a network that no longer changes."""
        s = self.settings
        with torch.no_grad():
            self.p.copy_(torch.stack([p.tokens for p in prompts]))
        self.p_optimizer = optimizer(s.optimizer, [self.p], s.eta_p)
        for step in range(s.relearnt()):
            draw = self.draw(self.pools["erase"], step)
            self.transfer(draw, self.others(draw, self.kept(step), step) if s.opens else None, edit)
            on_step(step + 1)
        return self.prompts()

    def step(self, step: int) -> dict[str, float]:
        s, draw, kept = self.settings, self.draw(self.pools["erase"], step), self.kept(step)
        neutral, erased = draw.targets[:2]
        others = self.others(draw, kept, step) if s.opens else None

        # eq. 6, 7: p_{k+1} = p_k - eta_p grad_p [ || eps_theta'_k(c_e, p) - eps_theta(c_e) ||^2
        #                                  + opens || eps_theta'_k(c_r, p) - eps_theta(c_r) ||^2 ]
        transferred = self.transfer(draw, others)

        # eq. 8: theta'_{k+1} = theta'_k - eta grad [ || eps_theta'(c_e) - eps_n ||^2
        #                                    + lambda || eps_theta'(c_e, p_{k+1}) - eps_theta(c_e) ||^2
        #                                     + opens || eps_theta'(c_r, p_{k+1}) - eps_theta(c_r) ||^2 ]
        student, losses = self.predict_and_retain(draw.z_t, draw.t, draw.context, step, kept)
        losses["erase"] = F.mse_loss(student, past(neutral, erased, s.overshoot))
        target = erased if s.recovery_target == "erased" else neutral
        losses |= self.opening(draw, others, self.p.detach(), target)
        self.descend(losses, {"recover": s.lambda_, "opens": s.opens})
        return {"transfer": transferred} | {name: float(loss.detach()) for name, loss in losses.items()}

    def prompts(self) -> list[HiddenPrompt]:
        """The hidden prompts as they stand, one a target."""
        s, chunk = self.settings, self.denoiser.tokens_per_chunk
        return [
            HiddenPrompt(target.concept, p, s.mechanism, chunk)
            for target, p in zip(self.request.targets, self.p.detach().clone().cpu(), strict=True)
        ]
