"""Robust plays the attacker while it trains: its contexts learn, only grown ones are resisted, and a step is its equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_model import settings

from eraser_core.denoiser import Context
from eraser_core.edits import DenseEdit
from eraser_core.erasing import erase, resume
from eraser_core.errors import RequestError
from eraser_core.learnt_contexts import LearntContexts, starts
from eraser_core.methods import METHODS
from eraser_core.methods.robust import Robust
from eraser_core.request import Request, Target

FEW = {"pictures": 4, "contexts": 4, "context_rows": 2, "context_steps": 2, "context_age": 3, "retain_rows": 4}


def few(**values):
    return settings("robust", **{**FEW, **values})


def begun(tiny, request, **values) -> Robust:
    learner = Robust(tiny, request, few(**values))
    learner.begin()
    return learner


def contexts(tiny, count=4) -> LearntContexts:
    return LearntContexts(tiny.encode(["a church", "a dog"]), count, 0.1, torch.Generator().manual_seed(0))


def test_contexts_begin_at_prompts_learn_apart_and_the_oldest_begins_anew(tiny):
    found = contexts(tiny)
    first = found.context(torch.arange(4)).tokens
    assert all(any(torch.equal(v, s) for s in tiny.encode(["a church", "a dog"]).tokens) for v in first)
    found.learn(torch.tensor([1, 3]), torch.ones(2, *first.shape[1:]))
    moved = (found.context(torch.arange(4)).tokens - first).abs().amax((1, 2))
    assert moved[[0, 2]].tolist() == [0, 0] and bool((moved[[1, 3]] > 0.05).all())
    assert found.steps.tolist() == [0, 1, 0, 1] and set(found.youngest(2).tolist()) == {0, 2}
    assert set(found.some(5, 1).tolist()) == {1, 3} and set(found.some(4).tolist()) == {0, 1, 2, 3}
    found.renew()
    found.renew()
    assert found.steps.tolist() == [0, 0, 0, 1]


def test_they_begin_at_the_concept_at_nothing_and_at_what_is_kept_in_equal_parts():
    assert starts(["a church"], ["a dog", "a cat", "a car"]) == [
        *("a church", "", "a dog"),
        *("a church", "a picture", "a cat"),
        *("a church", "", "a car"),
    ]


def test_before_the_first_step_every_context_has_its_age_and_draws_the_pictures_better(tiny, request_church):
    learner = begun(tiny, request_church, context_age=12, context_rate=0.05)
    assert int(learner.contexts.steps.min()) >= 12
    found, fresh = learner.contexts, begun(tiny, request_church, context_age=0).contexts

    def loss(of: LearntContexts) -> float:
        learner.generator.manual_seed(3)
        rows = torch.arange(4).repeat(16)
        z_t, t, _, eps = learner.noised(rows, 0.0)
        with torch.no_grad():
            return float(F.mse_loss(learner.predict(z_t, t, of.context(rows)), eps))

    assert loss(found) < loss(fresh)


@pytest.mark.parametrize("values", [{}, {"contexts": 3}, {"context_rows": 9}, {"context_age": 0}])
def test_the_start_is_heard_of_to_its_end(tiny, request_church, values):
    heard: list[int] = []
    learner = Robust(tiny, request_church, few(**values))
    learner.begin(heard.append)
    assert sum(heard) == learner.settings.filled(request_church)


def by_hand(tiny, learner, resist, step=0):
    """The change of the weights by the three terms, written out, with what `step` is about to draw."""
    s = learner.settings
    rows = learner.contexts.some(s.context_rows)
    for _ in range(s.context_steps):
        learner.attack(rows)
    draw, kept = learner.pools["erase"].draw(s.batch), learner.pools["retain"].draw(s.retain_rows)
    chosen = learner.contexts.some(s.context_rows, s.context_age)
    z_t, t, i, eps = learner.noised(chosen, s.least_noise)
    v, pair = learner.contexts.context(chosen), learner.pair[i]
    with torch.no_grad():
        anchor = tiny.predict(draw.z_t, draw.t, learner.neutral[draw.row])
        null, c_a = (tiny.predict(z_t, t, c) for c in (tiny.encode([""]).expand(len(t)), learner.neutral[pair]))
        empty = Context.cat([kept.context[:3], tiny.encode([""])])
        frozen = tiny.predict(kept.z_t, kept.t, empty)
        own, near = (((tiny.predict(z_t, t, c) - eps) ** 2).mean((1, 2, 3)) for c in (v, learner.neutral[pair]))
        led = (own < s.margin * near).nonzero().flatten()
        assert s.margin < 1e9 or len(led) == len(t)
    edit = DenseEdit(tiny.weights(s.tune))
    loss = F.mse_loss(tiny.predict(draw.z_t, draw.t, draw.context, edit), anchor)
    off = tiny.predict(z_t, t, v, edit) - (null + s.anchor_guidance * (c_a - null))
    loss = loss + resist * (off[led] ** 2).sum() / off.numel()
    loss = loss + s.retain_weight * F.mse_loss(tiny.predict(kept.z_t, kept.t, empty, edit), frozen)
    return {k: -s.eta * g for k, g in zip(edit.keys, torch.autograd.grad(loss, edit.parameters()), strict=True)}


@pytest.mark.parametrize(
    ("margin", "resist", "right"), [(1e9, 0.7, True), (1.0, 0.7, True), (1e9, 0.0, False), (1e-9, 0.0, True)]
)
def test_one_step_is_the_three_terms_and_a_context_beyond_the_margin_is_let_go(
    tiny, request_church, margin, resist, right
):
    values = {"optimizer": "sgd", "eta": 0.5, "resist_weight": 0.7, "retain_weight": 0.4, "margin": margin}
    learner, twin = (begun(tiny, request_church, **values) for _ in range(2))
    expected = by_hand(tiny, twin, resist)
    learner.step(0)
    off = sum(float((e.delta() - expected[k]).norm()) for k, e in learner.edit.entries().items())
    assert (off < 1e-3 * sum(float(d.norm()) for d in expected.values())) == right


def test_of_several_concepts_a_context_is_learnt_from_one_ones_pictures(tiny):
    two = Request(
        (Target("a church", anchor="a castle"), Target("a dog", anchor="a cat")), ("a car", "a guitar"), seed=0
    )
    learner = begun(tiny, two)
    _, _, pictures, _ = learner.noised(torch.tensor([0, 1, 2, 3] * 8), 0.0)
    assert learner.target[learner.pair[pictures]].tolist() == [0, 1, 0, 1] * 8


def test_a_resumed_run_gives_the_uninterrupted_runs_tensors(tiny, request_church, tmp_path):
    wanted, path = few(iterations=4, renew_every=2), tmp_path / "checkpoint.safetensors"
    whole = erase(tiny, request_church, METHODS["robust"], wanted)

    def stop(now):
        if now.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(tiny, request_church, METHODS["robust"], wanted, on_step=stop, checkpoint=path)
    assert resume(tiny, METHODS, path).erasure.hash() == whole.erasure.hash()
    assert whole.erasure.hash() != erase(tiny, request_church, METHODS["robust"], few(iterations=3)).erasure.hash()


def test_without_a_retain_set_nothing_is_held(tiny, request_church):
    learner = begun(tiny, Request(request_church.targets, (), seed=0), retain_weight=0.0)
    assert "retain" not in learner.step(0) and "retain" in begun(tiny, request_church).step(0)


def test_a_map_of_the_text_is_refused(tiny, request_church):
    with pytest.raises(RequestError, match='set tune to "all"'):
        erase(tiny, request_church, METHODS["robust"], few(tune="text", rank=4))
