"""What `robust` and `locked` share: an erasing that withstands learnt contexts, by adversarial training.

    theta    the frozen foundation network;  theta'  the sanitized network
    c_e      the concept to erase, in a prompt;  c_a  its anchor in the same prompt;  null  the empty prompt
    x_0      pictures of the concept that theta itself drew: nobody has to bring any
    v_1..m   contexts that somebody learns to get the concept back

Every other system here hides the concept from its name: a context that is learnt from a few pictures on the sanitized network
draws it again. So this one plays the attacker while it trains, as adversarial training of erasures does (AdvUnlearn,
arXiv 2405.15234; Receler, 2311.17717; STEREO, 2408.16807; AEGIS, 2602.06771). In turn, for chosen j and a renewed population:

    v_j     <-  down  || eps - eps_theta'(z_t, v_j) ||^2                               z_t from x_0, several steps
    theta'  <-  down  || eps_theta'(z_t, c_e) - eps_theta(z_t, c_a) ||^2
              + resist h_j || eps_theta'(z_t, v_j) - [eps(null) + g (eps(c_a) - eps(null))] ||^2   z_t from x_0, t not small
              + retain || eps_theta'(z_t, c_r) - eps_theta(z_t, c_r) ||^2                c_r retained, and the empty prompt

    h_j = 1 while || eps - eps_theta'(z_t, v_j) ||^2 < margin || eps - eps_theta(z_t, c_a) ||^2, else 0

Three things differ from those papers. Each context has one row of a batch, so many are learnt for the price of a few: a network
that is trained against few contexts resists those alone. And the network is held against a context only once that has gone
`context_age` steps: a young one still is the prompt that it began at, and to resist it is to lose that prompt. And h lets go of
a context once its error on the concept's pictures is `margin` times that of the anchor's prompt: what is resisted beyond that
harms look-alikes (docs/results/robust.md).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from .denoiser import Context, Denoiser, Tune
from .errors import RequestError
from .latents import Draw, OnFill
from .learnt_contexts import NOTHING, LearntContexts, starts
from .request import Request
from .training import Learner, Part, TrainingSettings, in_turn

EMPTY = 4  # one retained row in so many has the empty prompt, which is half of every guided step
FLAT = 0.5  # share of the steps at the full learning rate, which then falls to nothing


class ResistingSettings(TrainingSettings):
    """No paper has these: chosen on the pocket model's guitar, dog and truck (docs/results/robust.md)."""

    iterations: int = Field(300, ge=1, description="training steps")
    batch: int = Field(4, ge=1, description="z_t of the concept's prompts a step")
    tune: Tune = Field("all", description="what is tuned; learnt contexts find a way around less than all")
    eta: float = Field(5e-5, gt=0, description="learning rate of the network; it falls to 0 over the second half")
    retain_rows: int = Field(12, ge=2, description="z_t of retained prompts a step, a quarter with the empty prompt")
    resist_weight: float = Field(0.5, ge=0, description="weight of resisting learnt contexts; 0 is the control")
    margin: float = Field(
        1.5,
        gt=0,
        description="a context is let go once its error is this many times that of the anchor's prompt",
    )
    contexts: int = Field(24, ge=1, description="contexts that are learnt against the network")
    context_rows: int = Field(8, ge=1, description="of these, how many a step learns and resists")
    context_steps: int = Field(3, ge=1, description="steps of a context for one of the network")
    context_rate: float = Field(2e-2, gt=0, description="learning rate of the contexts")
    context_age: int = Field(40, ge=0, description="steps that a context has gone before it is resisted")
    renew_every: int = Field(6, ge=1, description="steps after which the oldest context begins anew")
    pictures: int = Field(48, ge=1, description="pictures of the concept that the frozen network draws first")
    anchor_guidance: float = Field(3.0, ge=1, description="how far a learnt context is led towards the anchor, g")
    least_noise: float = Field(
        0.15, ge=0, lt=1, description="share of the timesteps below which no context is resisted"
    )

    def suits(self, request: Request) -> None:
        """See `TrainingSettings.suits`; and a map of the text is refused."""
        super().suits(request)
        if self.confine:
            raise RequestError(
                "a change that is confined to the concepts' texts resists no learnt context: leave confine at 0"
            )
        if self.tune == "text":
            raise RequestError(
                'learnt contexts cannot be resisted by a map of the text: set tune to "all" or "noxattn"'
            )

    def texts(self, request: Request) -> list[str]:
        """Contexts begin at prompts that say nothing, too."""
        return list(dict.fromkeys([*super().texts(request), *NOTHING]))

    def student_rows(self, batch: int) -> int:
        return batch + self.context_rows + (self.retain_rows if self.retain_weight else 0)

    def further_rows(self) -> int:
        """The contexts' own steps."""
        return self.context_steps * self.context_rows

    def filled(self, request: Request) -> int:
        """The concept's pictures are drawn too, and contexts are learnt until all have their age: a row a step of one."""
        rows = min(self.context_rows, self.contexts)
        return super().filled(request) + self.pictures + -(-self.contexts * self.context_age // rows) * rows

    def kept_latents(self, request: Request) -> int:
        """The retained z_t have a second target, at the empty prompt."""
        retain = self.pool_shapes(request).get("retain")
        return super().kept_latents(request) + (retain.size if retain else 0) + self.pictures


class Resisting(Learner):
    """Lead the concept's prompts, and every context that is learnt to draw it, to the anchor.

    Of several concepts context j is learnt from the pictures of the j-th in turn.
    """

    def __init__(self, denoiser: Denoiser, request: Request, settings: ResistingSettings, key_seed: int | None = None):
        self.settings: ResistingSettings = settings
        super().__init__(denoiser, request, settings)
        self.null = denoiser.encode([""])
        self.pools["erase"] = self.pool(self.erased, self.neutral)
        if self.retained is not None and settings.retain_weight:
            self.pools["retain"] = self.pool(self.retained, self.retained, self.null.expand(len(self.retained)))
        self.z_0 = torch.zeros(settings.pictures, *denoiser.latent_shape, device=denoiser.device)
        self.pair = torch.arange(settings.pictures, device=denoiser.device) % len(self.erased)
        self.contexts = LearntContexts(self.begun_at(), settings.contexts, settings.context_rate, self.generator)

    def begun_at(self) -> Context:
        """Where contexts begin, one of them by chance."""
        concepts = [c_e for _, c_e, _ in in_turn(self.request.targets)]
        return self.denoiser.encode(starts(concepts, self.request.retain))

    def parts(self) -> dict[str, Part]:
        contexts = self.contexts
        return super().parts() | {
            "z_0": [self.z_0],
            "contexts": contexts.tokens,
            "contexts_numbers": contexts.numbers(),
            "contexts_optimizer": contexts.optimizer,
        }

    def begin(self, on_fill: OnFill | None = None) -> None:
        """Fill the pools, draw the concept's pictures, and learn contexts until all have their age."""
        super().begin(on_fill)
        s = self.settings
        self.draw_pictures(self.z_0, self.erased, s.guidance, on_fill)
        while bool((self.contexts.steps < s.context_age).any()):
            self.attack(self.contexts.youngest(s.context_rows))
            if on_fill:
                on_fill(min(s.context_rows, s.contexts))

    def noised(self, chosen: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(z_t, t, picture, eps), a row a chosen context: pictures of its concept, noised above the share `least` of the steps."""
        device, steps, concepts = self.z_0.device, self.denoiser.schedule.steps, len(self.request.targets)
        concept = (chosen % concepts).to(device)
        of_it = self.target[self.pair] == concept[:, None]  # [b, pictures]
        i = torch.multinomial(of_it.float().cpu(), 1, generator=self.generator).flatten().to(device)
        t = torch.randint(int(least * steps), steps, (len(chosen),), generator=self.generator).to(device)
        eps = torch.randn(len(chosen), *self.denoiser.latent_shape, generator=self.generator).to(device)
        a, sigma = self.denoiser.schedule.signal_and_noise(t)
        return a * self.z_0[i] + sigma * eps, t, i, eps

    def attack(self, chosen: Tensor) -> float:
        """One step of the chosen contexts towards the concept's pictures; their loss."""
        z_t, t, i, eps = self.noised(chosen, 0.0)
        v = self.contexts.context(chosen)
        tokens = v.tokens.clone().requires_grad_()
        out = self.predict(z_t, t, v.with_tokens(tokens))
        losses = _each(out, self.denoiser.schedule.native(self.z_0[i], eps, t))
        (gradients,) = torch.autograd.grad(losses.sum(), [tokens])
        self.contexts.learn(chosen, gradients)
        return float(losses.detach().mean())

    def resisting(self, out: Tensor, z_t: Tensor, t: Tensor, i: Tensor, eps: Tensor) -> Tensor:
        """The mean over rows of h || out - [eps_theta(null) + g (eps_theta(c_a) - eps_theta(null))] ||^2, for pictures i."""
        pair = self.pair[i]
        both = Context.cat([self.null.expand(len(pair)), self.neutral[pair]])
        with torch.no_grad():
            null, anchor = self.denoiser.predict(torch.cat([z_t, z_t]), torch.cat([t, t]), both).chunk(2)
            picture = self.denoiser.schedule.native(self.z_0[i], eps, t)
            drawn = _each(out, picture) < self.settings.margin * _each(anchor, picture)
        return (drawn * _each(out, null + self.settings.anchor_guidance * (anchor - null))).mean()

    def held(self, step: int) -> Draw | None:
        """This step's retained rows with their one target, the last quarter of them with the empty prompt; None without a retain set."""
        if "retain" not in self.pools:
            return None
        rows = self.settings.retain_rows
        draw = self.draw(self.pools["retain"], step, rows)
        n = rows - max(1, rows // EMPTY)
        context = Context.cat([draw.context[:n], self.null.expand(rows - n)])
        return replace(draw, context=context, targets=(torch.cat([draw.targets[0][:n], draw.targets[1][n:]]),))

    def terms(self, step: int) -> dict[str, Draw]:
        """The rows of this step's forward by the name of their loss, each with its one target; the contexts' are apart."""
        draw, kept = self.draw(self.pools["erase"], step), self.held(step)
        return {"erase": draw} | ({} if kept is None else {"retain": kept})

    def weights(self) -> dict[str, float]:
        """The weights of the losses that have not their own place in `descend`."""
        return {"resist": self.settings.resist_weight}

    def step(self, step: int) -> dict[str, float]:
        s = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = s.eta * min(1.0, (1 - step / s.iterations) / (1 - FLAT))
        if step and step % s.renew_every == 0:
            self.contexts.renew()
        rows = self.contexts.some(min(s.context_rows, s.contexts))
        for _ in range(s.context_steps):
            learnt = self.attack(rows)

        terms = self.terms(step)
        chosen = self.contexts.some(s.context_rows, s.context_age)
        z_t, t, i, eps = self.noised(chosen, s.least_noise)
        out = self.predict(
            torch.cat([z_t, *(term.z_t for term in terms.values())]),
            torch.cat([t, *(term.t for term in terms.values())]),
            Context.cat([self.contexts.context(chosen), *(term.context for term in terms.values())]),
        )
        resisting, *others = out.split([len(t), *(len(term.t) for term in terms.values())])
        losses = {"resist": self.resisting(resisting, z_t, t, i, eps)}
        losses |= {
            name: F.mse_loss(one, term.targets[0]) for (name, term), one in zip(terms.items(), others, strict=True)
        }
        self.descend(losses, self.weights())
        return {"learnt": learnt} | {name: float(loss.detach()) for name, loss in losses.items()}


def _each(a: Tensor, b: Tensor) -> Tensor:
    """The squared difference [b] of each row."""
    return (a - b).square().flatten(1).mean(1)
