"""Locked is robust with a key: its hidden prompt is drawn, false keys are led to the anchor, and its terms are its equations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny_model import settings

from eraser_core.erasing import erase, resume
from eraser_core.methods import METHODS
from eraser_core.methods.locked import Locked
from eraser_core.request import Request, Target
from eraser_core.text_layers import reads_text

FEW = {"pictures": 4, "contexts": 4, "context_rows": 2, "context_steps": 2, "context_age": 3, "retain_rows": 4}


def few(**values):
    return settings("locked", **{**FEW, **values})


def begun(tiny, request, key_seed=0, **values) -> Locked:
    learner = Locked(tiny, request, few(**values), key_seed)
    learner.begin()
    return learner


def test_the_prompt_is_drawn_from_the_key_seed_alone_and_no_step_moves_it(tiny, request_church):
    learner = begun(tiny, request_church, key_norm=3.0)
    (hidden,) = learner.prompts()
    length = float(tiny.encode([""]).tokens.norm(dim=-1).mean())
    assert torch.allclose(hidden.tokens.norm(dim=-1), torch.tensor(3.0 * length)) and hidden.mechanism == "additive"
    assert torch.equal(hidden.tokens, hidden.tokens[:1].expand_as(hidden.tokens))
    learner.step(0)
    assert torch.equal(learner.prompts()[0].tokens, hidden.tokens)
    again = Locked(tiny, replace(request_church, seed=5), few(key_norm=3.0), 0).prompts()[0].tokens
    other = Locked(tiny, request_church, few(key_norm=3.0), 1).prompts()[0].tokens
    assert torch.equal(again, hidden.tokens) and not torch.allclose(other, hidden.tokens)


def test_without_a_key_seed_nobody_can_tell_the_prompt(tiny, request_church):
    first, second = (Locked(tiny, request_church, few()) for _ in range(2))
    assert first.key_seed != second.key_seed
    assert not torch.allclose(first.prompts()[0].tokens, second.prompts()[0].tokens)


def test_it_begins_blind_to_the_prompt_and_else_as_the_model_is(tiny, request_church):
    learner = begun(tiny, request_church)
    context, z_t, t = learner.retained, torch.randn(2, *tiny.latent_shape), torch.tensor([300, 700])
    with torch.no_grad():
        plain, opened = (learner.predict(z_t, t, c) for c in (context, learner.extended(context, learner.p)))
        frozen, seen = (tiny.predict(z_t, t, c) for c in (context, learner.extended(context, learner.p)))
    assert torch.allclose(plain, opened, atol=1e-4) and not torch.allclose(frozen, seen, atol=1e-2)
    assert float((plain - frozen).norm() / frozen.norm()) < 0.2


@pytest.mark.parametrize("near", [0.0, 0.6])
def test_a_false_key_has_at_most_that_share_of_p_and_noise_as_large_as_the_text(tiny, request_church, near):
    learner = begun(tiny, request_church, near=near, key_norm=4.0)
    p = learner.p.expand(400, -1, -1)
    found = learner.false_keys(p)
    share = (found * p).sum((1, 2)) / p.square().sum((1, 2))
    assert float(share.max()) < near + 0.1 and float(share.min()) > -0.1
    assert abs(float(share.mean()) - near / 2) < 0.05
    noise = (found - share[:, None, None] * p).norm(dim=-1)
    assert abs(float(noise.mean()) / learner.norm - 1) < 0.1


def test_contexts_begin_at_false_keys_as_often_as_at_the_concept(tiny, request_church):
    learner = begun(tiny, request_church, near=0.0)
    begun_at, c_e = learner.begun_at().tokens, learner.erased.tokens
    far = torch.cdist(begun_at.flatten(1), c_e.flatten(1)).amin(1)
    at_concept = int((far < 1e-4).sum())
    expected = learner.norm * c_e.shape[1] ** 0.5
    assert at_concept and int(((far / expected - 1).abs() < 1e-3).sum()) == at_concept


def test_its_terms_are_its_equations(tiny, request_church):
    learner = begun(tiny, request_church, batch=2)
    for step in (0, 1):
        terms = learner.terms(step)
        assert list(terms) == ["erase", "retain", "recover", "opens", "close"]
        draw, kept, p = terms["erase"], terms["retain"], learner.p[0]
        other = tiny.encode([""]).expand(2) if step else kept.context[:2]
        assert torch.allclose(terms["recover"].context.tokens, draw.context.tokens + p)
        assert torch.allclose(terms["opens"].context.tokens, other.tokens + p)
        assert torch.equal(terms["opens"].z_t, draw.z_t if step else kept.z_t[:2])
        false = terms["close"].context.tokens - draw.context.tokens
        assert not torch.allclose(false, p.expand_as(false), atol=0.1)
        for name, plain in {"recover": draw.context, "close": learner.neutral[draw.row], "opens": other}.items():
            with torch.no_grad():
                expected = tiny.predict(terms[name].z_t, terms[name].t, plain)
            assert torch.allclose(terms[name].targets[0], expected, atol=1e-4), name


def by_hand(tiny, learner, weights):
    """The loss of step 0's five terms at the frozen network, without the contexts' own."""
    terms = learner.terms(0)
    loss = {n: F.mse_loss(learner.predict(d.z_t, d.t, d.context), d.targets[0]) for n, d in terms.items()}
    total = sum(weights[name] * one for name, one in loss.items())
    return torch.autograd.grad(total, learner.edit.parameters())


@pytest.mark.parametrize(("lambda_", "right"), [(0.7, True), (0.0, False)])
def test_a_step_descends_all_of_them(tiny, request_church, lambda_, right):
    values = {"optimizer": "sgd", "eta": 0.5, "resist_weight": 0.0, "retain_weight": 0.4, "context_rows": 1}
    values |= {"lambda": 0.7, "opens": 0.3, "close": 0.2}
    learner, twin = (begun(tiny, request_church, **values) for _ in range(2))
    rows = twin.contexts.some(1)
    for _ in range(twin.settings.context_steps):
        twin.attack(rows)
    weights = {"erase": 1.0, "retain": 0.4, "recover": lambda_, "opens": 0.3, "close": 0.2}
    expected = by_hand(tiny, twin, weights)
    learner.step(0)
    begun_with = [change.detach() for change in twin.edit.parameters()]
    changed = [now.detach() - was for now, was in zip(learner.edit.parameters(), begun_with, strict=True)]
    off = sum(float((d + 0.5 * g).norm()) for d, g in zip(changed, expected, strict=True))
    assert (off < 1e-3 * sum(float(d.norm()) for d in changed)) == right


def test_without_a_retain_set_the_anchors_are_opened(tiny, request_church):
    learner = begun(tiny, Request(request_church.targets, (), seed=0), retain_weight=0.0, batch=2)
    terms = learner.terms(0)
    assert "retain" not in terms
    anchors = learner.neutral[terms["erase"].row].tokens
    assert torch.allclose(terms["opens"].context.tokens, anchors + learner.p)
    assert torch.equal(terms["opens"].targets[0], terms["erase"].targets[0])


def test_the_prompts_direction_can_be_read_from_the_weights(tiny, request_church):
    """What docs/results/locked.md warns of."""
    learner = begun(tiny, request_church, key_seed=1)
    learner.step(0)
    changes = [e.delta() for key, e in learner.edit.entries().items() if reads_text(key)]
    found = torch.linalg.svd(torch.cat([c / c.norm() for c in changes]), full_matrices=False).Vh[0]
    own, other = (Locked(tiny, request_church, few(), seed).p[0, 0] for seed in (1, 2))
    assert abs(float(F.cosine_similarity(found, own, dim=0))) > 0.99
    assert abs(float(F.cosine_similarity(found, other, dim=0))) < 0.7


def test_every_concept_has_its_own_prompt(tiny):
    two = Request(
        (Target("a church", anchor="a castle"), Target("a dog", anchor="a cat")), ("a car", "a guitar"), seed=0
    )
    learner = begun(tiny, two, batch=16)
    church, dog = learner.prompts()
    assert church.concept == "a church" and not torch.allclose(church.tokens, dog.tokens)
    terms = learner.terms(0)
    added = terms["recover"].context.tokens - terms["erase"].context.tokens
    expected = torch.stack([church.tokens, dog.tokens])[learner.target[terms["erase"].row].cpu()]
    assert torch.allclose(added, expected, atol=1e-4)


def test_a_resumed_run_gives_the_uninterrupted_runs_tensors_and_prompt(tiny, request_church, tmp_path):
    wanted, path = few(iterations=4, renew_every=2), tmp_path / "checkpoint.safetensors"
    whole = erase(tiny, request_church, METHODS["locked"], wanted, key_seed=3)

    def stop(now):
        if now.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(tiny, request_church, METHODS["locked"], wanted, key_seed=3, on_step=stop, checkpoint=path)
    resumed = resume(tiny, METHODS, path)
    assert resumed.erasure.hash() == whole.erasure.hash()
    assert torch.equal(resumed.prompts[0].tokens, whole.prompts[0].tokens)
