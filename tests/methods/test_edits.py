"""Edits start as the identity, and what an erasure file holds is what was trained."""

from __future__ import annotations

import pytest
import torch
from tiny_model import settings

from eraser_core.edits import DenseEdit, LowRankEdit, TextMapEdit, make_edit, null_space
from eraser_core.erasure import Dense, Erasure, FrozenEdit, LowRank, stack, truncate
from eraser_core.errors import RequestError


def generator():
    return torch.Generator().manual_seed(1)


def batch(tiny, prompts=("a church", "a dog")):
    z = torch.randn(len(prompts), *tiny.latent_shape, generator=generator())
    return z, torch.tensor([500] * len(prompts)), tiny.encode(prompts)


def shake(edit):
    with torch.no_grad():
        for i, p in enumerate(edit.parameters()):
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))


CASES = [("xattn-kv", 0), ("xattn-kv", 3), ("xattn", 0), ("noxattn", 2), ("text", 4), ("all", 0), ("all", 2)]


@pytest.mark.parametrize(("tune", "rank"), CASES)
def test_an_edit_starts_as_the_identity_and_its_entries_are_the_trained_network(tiny, tune, rank):
    edit, at = make_edit(tiny, tune, rank, generator()), batch(tiny)
    untouched = tiny.predict(*at)
    assert torch.allclose(tiny.predict(*at, edit), untouched, atol=1e-6)
    shake(edit)
    trained = tiny.predict(*at, edit)
    assert not torch.allclose(trained, untouched, atol=1e-3)
    frozen = FrozenEdit({k: e.delta() for k, e in edit.entries().items()})
    assert torch.allclose(tiny.predict(*at, frozen), trained, atol=2e-4)


def test_what_is_tuned_is_what_its_name_says(tiny):
    every = set(tiny.all_weights())
    kv, x, rest = (set(tiny.weights(t)) for t in ("xattn-kv", "xattn", "noxattn"))
    assert all(".attn2.to_k.weight" in k or ".attn2.to_v.weight" in k for k in kv) and len(kv) == 14
    assert kv < x and not (x & rest) and x | rest == every == set(tiny.weights("all"))
    assert any(k.endswith("attn2.to_out.0.bias") for k in x)


def test_a_text_map_needs_a_rank(tiny):
    with pytest.raises(RequestError, match="rank"):
        make_edit(tiny, "text", 0, generator())


def test_a_map_in_the_null_space_leaves_retained_texts_where_they_are(tiny):
    kept = tiny.encode(("a dog", "a car"))
    basis = null_space(kept.tokens, 0.999999)
    assert torch.allclose(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-5)
    confined = TextMapEdit(tiny.weights("text"), 4, generator(), basis)
    free = TextMapEdit(tiny.weights("text"), 4, generator())
    for edit in (confined, free):
        shake(edit)

    def moved(edit, context):
        return float((edit.tokens(context.tokens) - context.tokens).detach().norm() / context.tokens.norm())

    assert moved(confined, kept) < 0.01
    assert moved(free, kept) > 0.05
    assert moved(confined, tiny.encode(("a church",))) > 2 * moved(confined, kept)


def test_too_many_retained_texts_leave_no_null_space():
    with pytest.raises(RequestError, match="retain fewer"):
        null_space(torch.randn(1, 40, 8), 0.999)


def test_a_cut_to_the_full_rank_is_exact_and_to_a_lower_one_the_best():
    delta = torch.randn(6, 5)
    assert torch.allclose(truncate(Dense(delta), 5).delta(), delta, atol=1e-5)
    cut = (truncate(Dense(delta), 2).delta() - delta).norm()
    s = torch.linalg.svdvals(delta)
    assert torch.isclose(cut, s[2:].norm(), rtol=1e-4)
    other = LowRank(delta[:, :2], torch.eye(2, 5)).delta()
    assert (other - delta).norm() > cut


def test_strength_scales_and_erasures_stack():
    def one(value):
        return Erasure({"m.weight": Dense(torch.full((2, 2), value))}, {"m": "lora_unet_m"}, "pocket", "h")

    w = torch.ones(2, 2)
    assert torch.equal(one(2.0).as_edit(0.5).weight("m.weight", w), torch.full((2, 2), 2.0))
    assert torch.equal(stack([one(2.0), one(3.0)], [1.0, -1.0]).weight("m.weight", w), torch.zeros(2, 2))
    assert torch.equal(one(2.0).as_edit(0.0).weight("m.weight", w), w)


def test_compressing_keeps_biases_and_small_matrices():
    entries = {"a.weight": Dense(torch.randn(8, 8)), "a.bias": Dense(torch.randn(8), bias=True)}
    cut = Erasure(entries, {"a": "lora_unet_a"}, "pocket", "h").compress(2)
    assert isinstance(cut.entries["a.weight"], LowRank) and isinstance(cut.entries["a.bias"], Dense)


def test_half_precision_weights_stay_in_their_precision(tiny):
    weights = {"k.weight": torch.randn(4, 3).half()}
    for edit in (DenseEdit(weights), LowRankEdit(weights, 2, generator())):
        shake(edit)
        assert edit.weight("k.weight", weights["k.weight"]).dtype == torch.float16
        assert all(p.dtype == torch.float32 for p in edit.parameters())


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="lamda"):
        settings(lamda=0.1)
