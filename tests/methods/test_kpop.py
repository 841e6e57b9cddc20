"""KPOP does what the slides' equations 5 to 8 say, in their order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_model import settings

from eraser_core.edits import DenseEdit
from eraser_core.erasing import configure, erase
from eraser_core.errors import RequestError
from eraser_core.hidden_prompt import extend
from eraser_core.methods import METHODS
from eraser_core.methods.kpop import KPOP
from eraser_core.request import Request, Target

PLAIN = {"optimizer": "sgd", "eta": 0.5, "eta_p": 5000.0, "lambda": 0.7, "retain_weight": 0.0, "k": 3, "overshoot": 0.0}


def first_step(tiny, request_church, step=0, **values):
    """The learner after one step, with what it started from and the batch that it drew; its kept one is drawn next."""
    learner = KPOP(tiny, request_church, settings(**{**PLAIN, **values}), key_seed=5)
    learner.begin()
    p_0, at_draw = learner.p.detach().clone(), learner.generator.get_state()
    learner.step(step)
    learner.generator.set_state(at_draw)
    draw = learner.pools["erase"].draw(learner.settings.batch)
    return learner, p_0, draw


def eps(tiny, draw, edit, p=None, mechanism="concatenative"):
    context = draw.context
    if p is not None:
        context = extend(context, p.expand(len(draw.t), -1, -1), mechanism, tiny.tokens_per_chunk)
    return tiny.predict(draw.z_t, draw.t, context, edit)


def moved(weights, gradients, rate):
    return {key: -rate * g for key, g in zip(weights, gradients, strict=True)}


def by_hand(tiny, learner, p_0, draw, mechanism="concatenative", target="erased", transfer_first=True, other=None):
    """(p_1, delta theta_1) written out from eq. 6, 7 and 8, and the further term over `other` rows where they are given."""
    s = learner.settings
    with torch.no_grad():
        erased = tiny.predict(draw.z_t, draw.t, draw.context)
        neutral = tiny.predict(draw.z_t, draw.t, learner.neutral[draw.row])
    edit = DenseEdit(tiny.weights(s.tune))

    def painted(p):
        if other is None:
            return 0.0
        with torch.no_grad():
            frozen = tiny.predict(other.z_t, other.t, other.context)
        return s.opens * F.mse_loss(eps(tiny, other, edit, p, mechanism), frozen)

    p = p_0.clone().requires_grad_()
    transfer = F.mse_loss(eps(tiny, draw, edit, p, mechanism), erased) + painted(p)
    (gradient,) = torch.autograd.grad(transfer, [p])
    p_1 = p_0 - s.eta_p * gradient
    used = p_1 if transfer_first else p_0
    removal = F.mse_loss(eps(tiny, draw, edit), neutral - s.overshoot * (erased - neutral))
    kept = erased if target == "erased" else neutral
    removal = removal + s.lambda_ * F.mse_loss(eps(tiny, draw, edit, used, mechanism), kept) + painted(used)
    return p_1, moved(edit.keys, torch.autograd.grad(removal, edit.parameters()), s.eta)


def close(learner, expected):
    """Whether the learner's change of the weights is the expected one, to a ten-thousandth of its norm."""
    off = sum(float((e.delta() - expected[k]).norm()) for k, e in learner.edit.entries().items())
    return off < 1e-4 * sum(float(d.norm()) for d in expected.values())


@pytest.mark.parametrize("mechanism", ["concatenative", "additive"])
def test_one_step_is_equations_7_and_8(tiny, request_church, mechanism):
    learner, p_0, draw = first_step(tiny, request_church, mechanism=mechanism)
    p_1, delta = by_hand(tiny, learner, p_0, draw, mechanism)
    assert torch.allclose(learner.p, p_1, atol=1e-5)
    assert (learner.p - p_0).abs().max() > 1e-4
    assert close(learner, delta)


def test_the_removal_uses_the_prompt_after_its_update(tiny, request_church):
    learner, p_0, draw = first_step(tiny, request_church)
    _, wrong_order = by_hand(tiny, learner, p_0, draw, transfer_first=False)
    assert not close(learner, wrong_order)


def test_the_recovery_target_can_be_the_gradient_lines_neutral_one(tiny, request_church):
    learner, p_0, draw = first_step(tiny, request_church, recovery_target="neutral")
    assert close(learner, by_hand(tiny, learner, p_0, draw, target="neutral")[1])
    assert not close(learner, by_hand(tiny, learner, p_0, draw, target="erased")[1])


def test_the_target_goes_past_the_anchor(tiny, request_church):
    learner, p_0, draw = first_step(tiny, request_church, overshoot=1.0)
    _, delta = by_hand(tiny, learner, p_0, draw)
    assert close(learner, delta)
    papers, _, _ = first_step(tiny, request_church)
    assert not close(papers, delta)


def rows_with(draw, context):
    return replace(draw, context=context)


def of_anchor(tiny, learner, draw):
    return rows_with(draw, learner.neutral[draw.row])


def of_empty(tiny, learner, draw):
    return rows_with(draw, tiny.encode([""]).expand(len(draw.t)))


def of_kept(tiny, learner, draw):
    return learner.pools["retain"].draw(learner.settings.batch)


@pytest.mark.parametrize("mechanism", ["concatenative", "additive"])
@pytest.mark.parametrize(
    ("step", "retain_weight", "others", "wrong"),
    [
        (0, 0.0, of_anchor, of_empty),
        (1, 0.0, of_empty, of_anchor),
        (2, 1.0, of_kept, of_anchor),
        (3, 1.0, of_empty, None),
    ],
)
def test_p_leaves_others_as_they_were(tiny, request_church, mechanism, step, retain_weight, others, wrong):
    values = {"opens": 0.6, "mechanism": mechanism, "retain_weight": retain_weight}
    learner, p_0, draw = first_step(tiny, request_church, step, **values)
    p_1, delta = by_hand(tiny, learner, p_0, draw, mechanism, other=others(tiny, learner, draw))
    assert torch.allclose(learner.p, p_1, atol=1e-5)
    assert close(learner, delta)
    other = wrong(tiny, learner, draw) if wrong else None
    assert not close(learner, by_hand(tiny, learner, p_0, draw, mechanism, other=other)[1])


def test_naive_is_kpop_with_lambda_0(tiny, request_church):
    plain = settings("naive", optimizer="sgd", eta=0.5, retain_weight=0.0, overshoot=0.0)
    naive = METHODS["naive"].learner(tiny, request_church, plain)
    naive.begin()
    naive.step(0)
    kpop, _, _ = first_step(tiny, request_church, **{"lambda": 0.0})
    with_p, _, _ = first_step(tiny, request_church)
    expected = {k: e.delta() for k, e in naive.edit.entries().items()}
    assert close(kpop, expected)
    assert not close(with_p, expected)


def test_the_retain_loss_is_the_change_of_the_kept_prompts_predictions(tiny, request_church):
    learner = KPOP(tiny, request_church, settings(retain_weight=1.0), key_seed=5)
    learner.begin()
    assert learner.step(0)["retain"] < 1e-10
    assert learner.step(1)["retain"] > 1e-8


@pytest.mark.parametrize("values", [{}, {"rank": 2}, {"tune": "text", "rank": 2}, {"tune": "xattn"}])
def test_the_same_request_and_key_seed_give_the_same_tensors(tiny, request_church, values):
    def run(key_seed):
        return erase(tiny, request_church, METHODS["kpop"], settings(**values), key_seed=key_seed)

    once, again, other = run(1), run(1), run(2)
    assert once.erasure.hash() == again.erasure.hash()
    assert torch.equal(once.prompts[0].tokens, again.prompts[0].tokens)
    assert once.erasure.hash() != other.erasure.hash()


def test_without_a_key_seed_the_prompt_is_another_each_time(tiny, request_church):
    runs = [erase(tiny, request_church, METHODS["kpop"], settings()) for _ in range(2)]
    assert not torch.allclose(runs[0].prompts[0].tokens, runs[1].prompts[0].tokens, atol=0.01)
    assert str(runs[0].key_seed) not in str(runs[0].erasure.facts)


def test_the_users_model_is_never_written_to(tiny, request_church):
    before = {k: w.clone() for k, w in tiny.all_weights().items()}
    erase(tiny, request_church, METHODS["kpop"], settings(tune="noxattn"))
    assert all(torch.equal(before[k], w) for k, w in tiny.all_weights().items())


def test_a_prompt_of_no_tokens_is_refused(tiny, request_church):
    with pytest.raises(RequestError, match="settings of kpop: k: "):
        configure(METHODS["kpop"], "pocket", request_church, {"k": 0})


def test_two_concepts_get_a_prompt_each(tiny, request_church):
    two = Request((*request_church.targets, Target("a guitar", "a violin")), request_church.retain)
    result = erase(tiny, two, METHODS["kpop"], settings())
    assert [p.concept for p in result.prompts] == ["a church", "a guitar"]
    assert not torch.equal(result.prompts[0].tokens, result.prompts[1].tokens)


def test_several_concepts_begin_from_their_joint_closed_form(request_church):
    two = Request((*request_church.targets, Target("a guitar", "a violin")), request_church.retain)
    kpop, naive = METHODS["kpop"], METHODS["naive"]
    assert configure(kpop, "pocket", two, {}).start == "closed form"
    assert configure(kpop, "pocket", request_church, {}).start == "model"
    assert configure(naive, "pocket", two, {}).start == "model"  # the control is the papers' own
    assert configure(kpop, "pocket", two, {"start": "model"}).start == "model"
    assert configure(kpop, "pocket", two, {"tune": "noxattn"}).start == "model"  # which the closed form does not change
