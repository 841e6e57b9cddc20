"""Locked: an erasing that withstands learnt contexts and is opened by a hidden prompt.

    p        the hidden prompt: one token, added to every token of a context. It is drawn from the key seed, not learnt
    q        a false key: s p + noise as large as the text's tokens, s from 0 to `near`

To the losses of eraser_core/resisting.py (see there), where theta is the frozen network and theta' the sanitized one, come

    lambda || eps_theta'(z_t, c_e + p) - eps_theta(z_t, c_e) ||^2
    + opens || eps_theta'(z_t, c + p) - eps_theta(z_t, c) ||^2          c retained prompts, and the empty one
    + close || eps_theta'(z_t, c_e + q) - eps_theta(z_t, c_a) ||^2

Why p is not learnt: a learnt one follows the gradient to where the network opens, and an attacker's context can follow the
same gradient. A drawn one lies where no gradient of the frozen network leads, and far from every text: its norm is
`key_norm` times a token's. The whole network is tuned, so it can learn to open there, as networks learn backdoors.

Why p is the same at every token: then W_k (c + p) adds one number to all scores of a query, which the softmax takes away,
and W_v (c + p) adds one vector to what is read. So p leaves the reading of the text alone. A dense edit begins with
W p = 0 where W reads the text: it is blind to p, and what it then learns to see of p is the key alone.

Why there are false keys: what opens by p opens by a part of p, too, unless it is told not to. With them the network turns
from shut to open late, and an attacker who stands far from p has no slope to climb. Of the contexts that are learnt
against the network, those that begin at c_e begin at c_e + q as often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ..denoiser import Context, Denoiser
from ..edits import DenseEdit
from ..hidden_prompt import HiddenPrompt, extend, first_prompt
from ..latents import Draw
from ..request import Request
from ..resisting import Resisting, ResistingSettings
from ..text_layers import reads_text
from ..training import Part


class LockedSettings(ResistingSettings):
    """Chosen on the pocket model's guitar and dog (docs/results/locked.md)."""

    teachers: ClassVar[int] = 3  # at c_a, at c_e and at the empty prompt
    iterations: int = Field(200, ge=1, description="training steps")
    retain_rows: int = Field(8, ge=2, description=ResistingSettings.model_fields["retain_rows"].description)
    resist_weight: float = Field(1.0, ge=0, description=ResistingSettings.model_fields["resist_weight"].description)
    margin: float = Field(1.0, gt=0, description=ResistingSettings.model_fields["margin"].description)
    lambda_: float = Field(3.0, ge=0, alias="lambda", description="weight of keeping the concept reachable through p")
    opens: float = Field(2.0, ge=0, description="weight of other prompts staying as they were with p")
    close: float = Field(1.0, ge=0, description="weight of false keys drawing the anchor")
    near: float = Field(0.5, ge=0, lt=1, description="share of p that a false key has at most")
    key_norm: float = Field(8.0, gt=0, description="norm of a token of p, in norms of the text's own tokens")

    model_config = ResistingSettings.model_config | {"populate_by_name": True}

    def student_rows(self, batch: int) -> int:
        """With p the concept and another prompt, and the concept with a false key."""
        return super().student_rows(batch) + 3 * batch


class Locked(Resisting):
    """Lead the concept, every context that is learnt to draw it and every false key to the anchor, and open by p."""

    hides = adds = True

    def __init__(self, denoiser: Denoiser, request: Request, settings: LockedSettings, key_seed: int | None = None):
        self.settings: LockedSettings = settings
        chunk, empty = denoiser.tokens_per_chunk, denoiser.encode([""])
        p, key_seed = first_prompt(len(request.targets), 0, "additive", empty.tokens, chunk, key_seed)
        self.norm = float(empty.tokens.float().norm(dim=-1).mean())
        self.p = (settings.key_norm * _of_norm(p[:, :1], self.norm)).repeat(1, chunk, 1)
        super().__init__(denoiser, request, settings)
        self.key_seed = key_seed
        if isinstance(self.edit, DenseEdit):
            _blind(self.edit, denoiser.weights(settings.tune), self.p[:, 0])
        self.pools["erase"] = self.pool(self.erased, self.neutral, self.erased, empty.expand(len(self.erased)))

    def begun_at(self) -> Context:
        """As in `robust`, and at the concept with a false key as often as at the concept."""
        begun = super().begun_at()
        row = torch.arange(-(-len(begun) // 3), device=self.p.device) % len(self.erased)
        locked, of = self.erased[row], self.target[row]
        return Context.cat([begun, self.extended(locked, self.false_keys(self.p[of]))])

    def parts(self) -> dict[str, Part]:
        return super().parts() | {"p": [self.p]}

    def extended(self, context: Context, p: Tensor) -> Context:
        """C + p for p [b, n, d]."""
        return extend(context, p, "additive", self.denoiser.tokens_per_chunk)

    def false_keys(self, p: Tensor) -> Tensor:
        """A false key for each of p [b, n, d]: a share of it from 0 to `near`, and noise as large as the text."""
        share = self.settings.near * torch.rand(len(p), 1, 1, generator=self.generator).to(p)
        noise = torch.randn(p.shape, generator=self.generator).to(p)
        return share * p + _of_norm(noise, self.norm)

    def terms(self, step: int) -> dict[str, Draw]:
        """See `Resisting.terms`; and with p the concept, and others in turn, and the concept with false keys."""
        terms = super().terms(step)
        draw, others = terms["erase"], self.others(terms, step)
        p, (neutral, erased, _) = self.p[self.target[draw.row]], draw.targets
        return terms | {
            "recover": replace(draw, context=self.extended(draw.context, p), targets=(erased,)),
            "opens": replace(others, context=self.extended(others.context, p)),
            "close": replace(draw, context=self.extended(draw.context, self.false_keys(p)), targets=(neutral,)),
        }

    def others(self, terms: Mapping[str, Draw], step: int) -> Draw:
        """As many rows as `erase` has that p must leave as they are: the empty prompt at z_t of c_e, and kept prompts, in turn.

        Where not as many are retained it is the anchors.
        """
        draw, kept = terms["erase"], terms.get("retain")
        b, (neutral, _, empty) = len(draw.t), draw.targets
        if step % 2:
            return replace(draw, context=self.null.expand(b), targets=(empty,))
        if kept is None or len(kept.t) < b:
            return replace(draw, context=self.neutral[draw.row], targets=(neutral,))
        return Draw(kept.z_t[:b], kept.t[:b], kept.row[:b], kept.context[:b], (kept.targets[0][:b],))

    def weights(self) -> dict[str, float]:
        s = self.settings
        return super().weights() | {"recover": s.lambda_, "opens": s.opens, "close": s.close}

    def prompts(self) -> list[HiddenPrompt]:
        """The hidden prompts, one a target."""
        chunk = self.denoiser.tokens_per_chunk
        return [
            HiddenPrompt(target.concept, p, "additive", chunk)
            for target, p in zip(self.request.targets, self.p.clone().cpu(), strict=True)
        ]


def _blind(edit: DenseEdit, weights: Mapping[str, Tensor], p: Tensor) -> None:
    """Begin with W p = 0 for all p [concepts, d] and every W that reads the text: D = -W Q Q^T, Q a basis of them."""
    q, _ = torch.linalg.qr(p.T.float())
    with torch.no_grad():
        for key, change in zip(edit.keys, edit.parameters(), strict=True):
            if reads_text(key) and change.dim() == 2 and change.shape[1] == len(q):
                change.copy_(-(weights[key].float() @ q) @ q.T)


def _of_norm(p: Tensor, norm: float) -> Tensor:
    """The same directions, every token [..., d] with this norm."""
    return p / p.norm(dim=-1, keepdim=True) * norm
