"""ESD and CA do what their papers' equations say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_model import settings

from eraser_core.erasing import erase, resume
from eraser_core.methods import METHODS

PLAIN = {"optimizer": "sgd", "eta": 0.5, "retain_weight": 0.0}


def learner(tiny, request_church, name, **values):
    made = METHODS[name].learner(tiny, request_church, settings(name, **{**PLAIN, **values}))
    made.begin()
    return made


def loss_of_first_step(made):
    """(the loss a first step reports, the generator's state before it)."""
    at = made.generator.get_state()
    return made.step(0)["erase"], at


def test_esds_target_pushes_away_from_the_concept(tiny, request_church):
    made = learner(tiny, request_church, "esd")
    found, at = loss_of_first_step(made)
    made.generator.set_state(at)
    draw = made.pools["erase"].draw(made.settings.batch)
    eps_c, eps_null = (tiny.predict(draw.z_t, draw.t, c) for c in (draw.context, tiny.encode([""]).expand(2)))
    assert found == pytest.approx(float(F.mse_loss(eps_c, eps_c - 2.0 * (eps_c - eps_null))), rel=1e-3)
    assert found != pytest.approx(float(F.mse_loss(eps_c, eps_c + 2.0 * (eps_c - eps_null) + 0.1)), rel=1e-2)


def test_esd_may_start_from_another_prompt(tiny, request_church):
    made = learner(tiny, request_church, "esd", from_anchor=True)
    found, at = loss_of_first_step(made)
    made.generator.set_state(at)
    draw = made.pools["erase"].draw(made.settings.batch)
    eps_c, eps_null = (tiny.predict(draw.z_t, draw.t, c) for c in (draw.context, tiny.encode([""]).expand(2)))
    assert found == pytest.approx(float(F.mse_loss(2.0 * (eps_c - eps_null), torch.zeros_like(eps_c))), rel=1e-3)
    other, _ = loss_of_first_step(learner(tiny, request_church, "esd"))
    assert made.c_from is made.neutral and other == pytest.approx(found, rel=1e-3)


def test_cas_anchor_prediction_comes_from_the_network_being_tuned(tiny, request_church):
    made = learner(tiny, request_church, "ca", anchor_images=4, eta=20.0)
    made.step(0)
    at = made.generator.get_state()
    z_t, t, pair = made.noised()
    student, tuned = (made.predict(z_t, t, c[pair]).detach() for c in (made.erased, made.neutral))
    frozen = tiny.predict(z_t, t, made.neutral[pair])
    made.generator.set_state(at)
    found = made.step(1)["erase"]
    assert found == pytest.approx(float(F.mse_loss(student, tuned)), rel=1e-3)
    assert found != pytest.approx(float(F.mse_loss(student, frozen)), rel=1e-2)


def test_cas_target_can_go_past_the_anchor(tiny, request_church):
    made = learner(tiny, request_church, "ca", anchor_images=4, eta=20.0, overshoot=0.5)
    made.step(0)
    at = made.generator.get_state()
    z_t, t, pair = made.noised()
    student, tuned = (made.predict(z_t, t, c[pair]).detach() for c in (made.erased, made.neutral))
    concept, anchor = (tiny.predict(z_t, t, c[pair]) for c in (made.erased, made.neutral))
    made.generator.set_state(at)
    found = made.step(1)["erase"]
    assert found == pytest.approx(float(F.mse_loss(student, tuned - 0.5 * (concept - anchor))), rel=1e-3)
    assert found != pytest.approx(float(F.mse_loss(student, tuned)), rel=1e-2)


def test_cas_latents_are_noised_pictures_of_the_anchor(tiny, request_church):
    made = learner(tiny, request_church, "ca", anchor_images=4)
    z_t, t, _ = made.noised()
    assert made.z_0.abs().sum(dim=(1, 2, 3)).min() > 0
    assert z_t.shape == (2, *tiny.latent_shape) and t.max() < 1000


@pytest.mark.parametrize("name", ["esd", "ca"])
def test_the_same_request_gives_the_same_tensors_also_when_resumed(tiny, request_church, tmp_path, name):
    class Stop(Exception):
        pass

    def stop(step):
        if step.step == 2:
            raise Stop

    wanted, path = settings(name), tmp_path / "c.safetensors"
    whole = erase(tiny, request_church, METHODS[name], wanted)
    assert whole.erasure.hash() == erase(tiny, request_church, METHODS[name], wanted).erasure.hash()
    with pytest.raises(Stop):
        erase(tiny, request_church, METHODS[name], wanted, on_step=stop, checkpoint=path)
    assert resume(tiny, METHODS, path).erasure.hash() == whole.erasure.hash()
    assert whole.prompts == ()
