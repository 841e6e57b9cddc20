"""The pool of partial denoisings, the loop, and going on after an interruption."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_model import TINY_STEPS, settings

from eraser_core.erasing import erase, resume
from eraser_core.errors import FileFormatError, RequestError
from eraser_core.latents import LatentPool, PoolShape
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target
from eraser_core.sampling import noise_for, sample, trajectory
from eraser_core.training import in_turn

SHAPE = PoolShape(size=8, per_trajectory=2, sampler_steps=4, guidance=3.0)


class Stop(Exception):
    pass


def pool(tiny, seed=1, shape=SHAPE):
    contexts = tiny.encode(("a church", "a dog"))
    made = LatentPool(tiny, contexts, (contexts,), tiny.encode([""]), shape, torch.Generator().manual_seed(seed))
    made.fill(None)
    return made


def test_a_pools_entries_lie_on_the_samplers_path(tiny):
    made = pool(tiny, shape=PoolShape(4, 4, 4, 3.0))
    state = made.state()
    noise = torch.randn((1, *tiny.latent_shape), generator=torch.Generator().manual_seed(1))
    walk = trajectory(tiny, noise, tiny.encode(["a church"]), tiny.encode([""]), 4, 3.0)
    path = {int(t): z for i, t, z in walk if i < 4}
    for z, t in zip(state["z"], state["t"], strict=True):
        assert torch.allclose(z, path[int(t)][0], atol=1e-5)


def test_stored_targets_are_the_frozen_networks_predictions(tiny):
    draw = pool(tiny).draw(5)
    assert torch.allclose(draw.targets[0], tiny.predict(draw.z_t, draw.t, draw.context), atol=1e-5)
    assert not torch.allclose(draw.targets[0], tiny.predict(draw.z_t, draw.t, tiny.encode([""]).expand(5)), atol=1e-5)


def test_a_refresh_replaces_the_oldest_alone(tiny):
    made = pool(tiny)
    before = made.state()["z"].clone()
    made.refresh(2, None)
    same = (made.state()["z"] == before).flatten(1).all(1)
    assert same.tolist() == [False] * 2 + [True] * 6


def test_a_pool_costs_fewer_rows_than_denoising_anew(tiny, request_church):
    def rows(**values):
        start = tiny.rows.no_grad
        erase(tiny, request_church, METHODS["naive"], settings("naive", retain_weight=0.0, iterations=12, **values))
        return tiny.rows.no_grad - start

    assert rows(latents="pool") < rows(latents="fresh") / 2


def test_latents_may_come_from_the_network_being_edited(tiny, request_church):
    def run(source, every=1):
        values = settings("naive", latents_from=source, refresh_every=every, eta=0.05, iterations=8)
        return erase(tiny, request_church, METHODS["naive"], values).erasure.hash()

    assert run("edited") != run("frozen")
    assert run("edited", every=0) == run("frozen", every=0)


@pytest.mark.parametrize(
    "values", [{}, {"rank": 2, "latents": "fresh"}, {"optimizer": "sgd", "refresh_every": 2}, {"opens": 1.0}]
)
def test_a_resumed_run_gives_the_uninterrupted_runs_tensors(tiny, request_church, tmp_path, values):
    def stop(step):
        if step.step == 3:
            raise Stop

    wanted = settings(**{"iterations": 6, **values})
    whole = erase(tiny, request_church, METHODS["kpop"], wanted, key_seed=4)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        erase(tiny, request_church, METHODS["kpop"], wanted, key_seed=4, on_step=stop, checkpoint=path)
    resumed = resume(tiny, METHODS, path)
    assert resumed.erasure.hash() == whole.erasure.hash()
    assert torch.equal(resumed.prompts[0].tokens, whole.prompts[0].tokens)
    assert resumed.losses == whole.losses
    shorter = erase(tiny, request_church, METHODS["kpop"], settings(**{"iterations": 3, **values}), key_seed=4)
    assert shorter.erasure.hash() != whole.erasure.hash()


def test_a_checkpoint_of_another_model_or_no_checkpoint_is_refused(tiny, request_church, tmp_path):
    from tiny_model import tiny_model

    from eraser_core.backends.pocket import PocketDenoiser

    def stop(step):
        raise Stop

    path = tmp_path / "c.safetensors"
    with pytest.raises(Stop):
        erase(tiny, request_church, METHODS["kpop"], settings(), on_step=stop, checkpoint=path)
    with pytest.raises(RequestError, match="another model"):
        resume(PocketDenoiser(tiny_model(seed=1)), METHODS, path)
    path.write_bytes(b"")
    with pytest.raises(FileFormatError):
        resume(tiny, METHODS, path)


def test_a_retain_loss_without_a_retain_set_is_refused(tiny, request_church):
    with pytest.raises(RequestError, match="nothing to retain"):
        erase(tiny, replace(request_church, retain=()), METHODS["kpop"], settings())


def test_a_pictures_noise_is_its_own(tiny):
    both = noise_for((2, 3, 3), 7, [4, 9])
    assert torch.equal(both[1], noise_for((2, 3, 3), 7, [9])[0])
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[0], noise_for((2, 3, 3), 8, [4])[0])


def test_sampling_in_batches_is_sampling_one_by_one(tiny):
    noise, context, negative = (
        noise_for(tiny.latent_shape, 0, [0, 1]),
        tiny.encode(("a dog", "a car")),
        tiny.encode([""]),
    )
    both = sample(tiny, noise, context, negative, 4, 3.0)
    assert torch.allclose(both[1:], sample(tiny, noise[1:], context[torch.tensor([1])], negative, 4, 3.0), atol=1e-4)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_ddim_of_a_perfect_predictor_returns_the_picture(tiny):
    """With eps the true noise of a known z_0, every number of steps ends at z_0; with another prediction it does not."""
    z_0 = torch.randn(1, *tiny.latent_shape, generator=torch.Generator().manual_seed(2))

    class Perfect:
        schedule, off = tiny.schedule, 0.0

        def predict(self, z_t, t, context, edit=None):
            a, s = self.schedule.signal_and_noise(t)
            return (z_t - a * z_0) / s + self.off

    perfect, context = Perfect(), tiny.encode([""])
    noise = torch.randn(z_0.shape, generator=torch.Generator().manual_seed(3))
    for steps in (2, 10):
        assert torch.allclose(sample(perfect, noise, context, context, steps, 1.0), z_0, atol=1e-3)
    perfect.off = 0.5
    assert not torch.allclose(sample(perfect, noise, context, context, 10, 1.0), z_0, atol=1e-1)


def test_v_prediction_splits_into_picture_and_noise(tiny):
    from eraser_core.denoiser import NoiseSchedule

    schedule = NoiseSchedule.scaled_linear(prediction="v_prediction")
    z_0, eps, t = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2), torch.tensor([10, 900])
    a, s = schedule.signal_and_noise(t)
    found = schedule.split(a * eps - s * z_0, a * z_0 + s * eps, t)
    assert torch.allclose(found[0], z_0, atol=1e-5) and torch.allclose(found[1], eps, atol=1e-5)


THREE = Request(
    tuple(Target(concept, "a gear", templates=("{}", "a drawing of {}")) for concept in ("a dog", "a car", "a bee"))
)


@pytest.mark.parametrize("size, take", [(1, 1), (4, 8), (256, 8)])
def test_every_prompt_is_in_the_pools(tiny, size, take):
    """Also where the pool has room for fewer denoisings than there are prompts: fewer z_t of each, or a larger pool."""
    kept = tuple(f"a {word}" for word in ("house", "gear", "castle", "church", "guitar"))
    request = replace(THREE, retain=kept)
    values = settings("naive", retain_weight=1.0, pool_size=size, per_trajectory=take)
    learner = METHODS["naive"].learner(tiny, request, values, 0)
    learner.begin()
    for name, prompts in (("erase", 6), ("retain", 5)):
        pool = learner.pools[name]
        assert set(pool.state()["row"].tolist()) == set(range(prompts)), name
        assert pool.size == max(size * (3 if name == "erase" else 1), prompts)
    assert values.pool_shapes(request)["retain"].per_trajectory == min(take, max(1, size // 5), values.sampler_steps)


def test_one_concept_keeps_the_order_of_its_templates():
    (target,) = Request((Target("a dog", "a gear", templates=("{}", "a drawing of {}")),)).targets
    assert in_turn([target]) == [(0, *pair) for pair in target.pairs()]
    assert sorted(in_turn(THREE.targets)) == sorted((i, *p) for i, t in enumerate(THREE.targets) for p in t.pairs())


def test_a_runs_rows_are_its_own(tiny):
    """Whatever the model drew before and draws afterwards."""
    first = erase(tiny, THREE, METHODS["naive"], settings("naive", retain_weight=0.0))
    noise, context = noise_for(tiny.latent_shape, 0, [0]), tiny.encode([""])
    sample(tiny, noise, context, context, 4, 1.0)
    again = erase(tiny, THREE, METHODS["naive"], settings("naive", retain_weight=0.0))
    assert first.rows == again.rows and first.rows.grad > 0 and tiny.rows.no_grad > again.rows.no_grad


def test_a_gradient_out_of_range_stops_the_run_before_it_is_kept(tiny, request_church, monkeypatch):
    learner = METHODS["kpop"].learner(tiny, request_church, METHODS["kpop"].configure("pocket", TINY_STEPS), 1)
    learner.begin()
    learner.step(1)
    before = [p.detach().clone() for p in learner.edit.parameters()]
    plain = tiny.predict
    monkeypatch.setattr(tiny, "predict", lambda *args: plain(*args) * float("inf"))
    with pytest.raises(RequestError, match="a gradient left the range"):
        learner.step(2)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.edit.parameters(), strict=True))
