"""Flow matching in the engine: the schedule, Euler sampling, and a transformer behind the same seam as the UNets."""

import pytest
import torch
from tiny_flow import CONFIG, tiny_flow
from tiny_model import TINY_STEPS

from eraser_core.backends.diffusers import Budget
from eraser_core.backends.lumina import host_names
from eraser_core.denoiser import FlowSchedule, NoiseSchedule
from eraser_core.edits import DenseEdit, LowRankEdit, TextMapEdit
from eraser_core.erasing import erase as run
from eraser_core.errors import RequestError
from eraser_core.hidden_prompt import extend
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target
from eraser_core.sampling import sample, trajectory
from eraser_core.text_layers import is_door
from eraser_core.text_space import last_tokens

DOOR = "diffusion_model.cap_embedder.1.weight"
QKV = "diffusion_model.layers.0.attention.qkv.weight"
REQUEST = Request((Target("church", anchor="house"),), ("a guitar", "a dog"), seed=0)


def erase(denoiser, request, name, values=None):
    method = METHODS[name]
    return run(denoiser, request, method, method.configure(denoiser.family, values or {}), dtype=torch.float32)


@pytest.fixture(scope="module")
def flow():
    return tiny_flow()


def inputs(denoiser, b=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(b, *denoiser.latent_shape, generator=g), torch.tensor([999, 300])[:b]


@pytest.mark.parametrize("schedule", [FlowSchedule.shifted(3.0), NoiseSchedule.scaled_linear()])
def test_a_perfect_prediction_splits_into_what_it_was_made_of(schedule):
    g = torch.Generator().manual_seed(0)
    z_0, eps = torch.randn(3, 2, 4, 4, generator=g), torch.randn(3, 2, 4, 4, generator=g)
    t = torch.tensor([10, 500, 900])
    a, s = schedule.signal_and_noise(t)
    found = schedule.split(schedule.native(z_0, eps, t), a * z_0 + s * eps, t)
    torch.testing.assert_close(found, (z_0, eps), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(schedule.split(z_0 - eps, a * z_0 + s * eps, t)[0], z_0, atol=0.1)


def test_the_shift_makes_more_steps_noisy_and_the_first_is_pure_noise():
    plain, shifted = FlowSchedule.shifted(1.0), FlowSchedule.shifted(3.0)
    grid = shifted.grid(4)
    assert grid.tolist() == [999, 749, 499, 249]
    assert torch.allclose(plain.levels(grid)[1], torch.tensor([1.0, 0.75, 0.5, 0.25], dtype=torch.float64))
    assert torch.allclose(shifted.levels(grid)[1], torch.tensor([1.0, 0.9, 0.75, 0.5], dtype=torch.float64))
    assert float(shifted.levels(grid)[0][0]) == 0


def test_sampling_is_eulers_method_on_that_grid(flow):
    noise, context = torch.randn(2, *flow.latent_shape), flow.encode(["a church", "a dog"])
    z, grid = noise, [*flow.schedule.levels(flow.schedule.grid(5))[1].tolist(), 0.0]
    with torch.no_grad():
        for i, t in enumerate(flow.schedule.grid(5).tolist()):
            z = z + (grid[i + 1] - grid[i]) * flow.predict(z, torch.full((2,), t), context)
    torch.testing.assert_close(sample(flow, noise, context, flow.encode([""]), 5, 1.0), z, atol=1e-5, rtol=1e-5)


def test_both_solvers_come_to_one_picture_with_many_steps_and_guidance_changes_it(flow):
    noise, context, null = torch.randn(1, *flow.latent_shape), flow.encode(["a church"]), flow.encode([""])
    euler = sample(flow, noise, context, null, 200, 2.0)
    torch.testing.assert_close(sample(flow, noise, context, null, 60, 2.0, solver="dpmpp"), euler, atol=0.02, rtol=0.02)
    assert not torch.allclose(sample(flow, noise, context, null, 200, 1.0), euler, atol=0.02)
    assert [i for i, _, _ in trajectory(flow, noise, context, null, 3, 2.0)] == [0, 1, 2, 3]


def test_names_are_the_hosts_and_every_parameter_has_one(flow):
    own = [name for names in host_names(flow.network, CONFIG).values() for name in names]
    assert sorted(own) == sorted(name for name, _ in flow.network.named_parameters())
    assert list(flow.weights("xattn-kv")) == [DOOR]
    assert is_door(DOOR) and not is_door(QKV)
    attention = flow.weights("xattn")
    assert DOOR in attention and QKV in attention and not any("feed_forward" in key for key in attention)
    assert attention.keys().isdisjoint(flow.weights("noxattn"))
    assert attention.keys() | flow.weights("noxattn").keys() == flow.all_weights().keys()
    assert flow.file_names()["diffusion_model.layers.0.attention.qkv"] == "lora_unet_layers_0_attention_qkv"


def test_an_edit_of_a_fused_matrix_reaches_all_its_parts_and_leaves_the_model_alone(flow):
    z, t = inputs(flow)
    context = flow.encode(["a church", "a dog"])
    edit = DenseEdit({QKV: flow.all_weights()[QKV]})
    before = flow.predict(z, t, context)
    torch.testing.assert_close(flow.predict(z, t, context, edit), before)
    width = CONFIG["hidden_size"]
    for part in range(3):
        with torch.no_grad():
            edit.parameters()[0].zero_()[part * width : (part + 1) * width] = 0.5
        changed = flow.predict(z, t, context, edit)
        assert (changed - before).abs().max() > 1e-4
        state = {k: v.clone() for k, v in flow.network.state_dict().items()}
        name = f"layers.0.attn.to_{'qkv'[part]}.weight"
        state[name] += 0.5
        by_hand = torch.func.functional_call(flow.network, state, *flow._wiring.call(z, t, context))[0]
        torch.testing.assert_close(changed, -by_hand)
    torch.testing.assert_close(flow.predict(z, t, context), before)


def test_activations_computed_again_give_the_same_gradients(flow):
    again = tiny_flow(budget=Budget(recompute=True))
    z, t = inputs(flow)
    found = []
    for denoiser in (flow, again):
        edit = LowRankEdit(denoiser.weights("xattn"), 2, torch.Generator().manual_seed(0))
        loss = denoiser.predict(z, t, denoiser.encode(["a church", "a dog"]), edit).square().mean()
        found.append(torch.autograd.grad(loss, edit.parameters()))
    torch.testing.assert_close(*found)
    assert any(float(g.abs().max()) > 0 for g in found[0])


def test_a_map_of_the_text_is_a_change_of_the_one_matrix(flow):
    z, t = inputs(flow)
    context = flow.encode(["a church", "a dog"])
    edit = TextMapEdit(flow.weights("text"), 3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        edit.parameters()[1].normal_(0, 0.3)
    (entry,) = edit.entries().values()
    whole = DenseEdit(flow.weights("text"))
    with torch.no_grad():
        whole.parameters()[0].copy_(entry.delta())
    torch.testing.assert_close(flow.predict(z, t, context, edit), flow.predict(z, t, context, whole))
    assert not torch.allclose(flow.predict(z, t, context, edit), flow.predict(z, t, context), atol=1e-4)


def test_closed_forms_work_on_states_behind_the_norm(flow):
    """DP with nothing to retain: the concept's tokens become the anchor's exactly, for the matrix that reads both."""
    request = Request((Target("church", anchor="house"),), (), seed=0)
    erased = erase(flow, request, "dp", {"overshoot": 0.0, "directions": 16})
    (entry,) = erased.erasure.entries.values()
    weight = flow.weights("xattn-kv")[DOOR]
    words = last_tokens(flow, ["church", "house"])
    raw = {text: flow.encode([text]).tokens[0, flow.token_count(text) - 1] for text in words}
    changed = weight + entry.delta()

    def missed(states):
        church, house = states.values()
        return float((changed @ church - weight @ house).norm() / (weight @ (church - house)).norm())

    assert missed(words) < 1e-3 < 0.02 < missed(raw)
    assert not torch.allclose(flow.as_read(flow.encode(["a church"]).tokens), flow.encode(["a church"]).tokens)


@pytest.mark.parametrize("method", ["uce", "time", "dp"])
def test_a_closed_form_is_one_low_rank_entry(flow, method):
    erasure = erase(flow, REQUEST, method).erasure
    assert list(erasure.entries) == [DOOR]
    assert erasure.facts["modelspec.prediction_type"] == "flow"
    assert erasure.file_names == {"diffusion_model.cap_embedder.1": "lora_unet_cap_embedder_1"}
    with pytest.raises(RequestError, match="neither K nor V"):
        erase(flow, REQUEST, method, {"layers": "v"})


@pytest.mark.parametrize("tune", ["xattn-kv", "xattn", "noxattn", "text"])
@pytest.mark.parametrize("method", ["kpop", "esd", "ca", "naive"])
def test_gradient_methods_train_on_it_unchanged(flow, method, tune):
    settings = {**TINY_STEPS, "tune": tune, "rank": 2, "iterations": 2, "start": "model"}
    erased = erase(flow, REQUEST, method, settings)
    assert all(torch.isfinite(torch.tensor(list(step.values()))).all() for step in erased.losses)
    assert any(float(entry.bound()) > 0 for entry in erased.erasure.entries.values())
    assert (DOOR in erased.erasure.entries) == (tune != "noxattn")


def test_a_hidden_prompt_lengthens_the_text_and_moves_the_picture_along(flow):
    z, t = inputs(flow)
    context = flow.encode(["a church", "a dog"])
    longer = extend(context, torch.randn(2, 3, 32), "concatenative", flow.tokens_per_chunk)
    assert longer.tokens.shape[1] == context.tokens.shape[1] + 3
    assert not torch.allclose(flow.predict(z, t, longer), flow.predict(z, t, context), atol=1e-4)
