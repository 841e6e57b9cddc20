"""DAAM heat maps and cosine similarity: against numbers worked by hand, and under an edit and a hidden prompt."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from eraser_core.denoiser import Context, NoiseSchedule, Rows
from eraser_core.erasure import FrozenEdit
from eraser_core.errors import ModelError, RequestError
from eraser_core.evaluation.metrics.attention import added_positions, attn2_calls, probabilities, word_positions
from eraser_core.evaluation.metrics.attribution import heat_maps, overlay, share_on, silhouette, upsample
from eraser_core.evaluation.metrics.similarity import cosine, cosines
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.sampling import noise_for, sample

PROMPT = "a drawing of a church"


class Attention(nn.Module):
    """Cross-attention with identity projections and one head of width 1."""

    def __init__(self):
        super().__init__()
        self.heads = 1
        self.to_q, self.to_k = nn.Identity(), nn.Identity()

    def forward(self, pixels, tokens):
        return self.to_q(pixels).sum() + self.to_k(tokens).sum()


class Toy(nn.Module):
    """A network of one attn2 block in a latent of 2 x 2."""

    def __init__(self):
        super().__init__()
        self.attn2 = Attention()


class ToyDenoiser:
    """Queries are the latents themselves; nothing moves, so every step sees the same."""

    schedule = NoiseSchedule.scaled_linear()
    rows = Rows()

    def __init__(self):
        self.network = Toy()

    def predict(self, z_t, t, context, edit=None):
        self.network.attn2(
            torch.full_like(z_t, math.log(3)).flatten(2).transpose(1, 2) * self.sign(z_t), context.tokens
        )
        return torch.zeros_like(z_t)

    def sign(self, z_t):
        return torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 4, 1)


def toy_context(*tokens: float) -> Context:
    return Context(torch.tensor(tokens).view(1, -1, 1))


def test_maps_of_a_hand_made_attention():
    noise = torch.zeros(1, 1, 2, 2)
    # Upper pixels: scores ln 3 and 0, so 3/4 and 1/4; lower pixels: 0 and 0, so 1/2 each.
    found = heat_maps(ToyDenoiser(), noise, toy_context(1.0, 0.0), toy_context(5.0, -5.0), 3, 4.0)
    expected = torch.tensor([[[0.75, 0.75], [0.5, 0.5]], [[0.25, 0.25], [0.5, 0.5]]])
    assert torch.allclose(found.maps[0], expected, atol=1e-6)
    assert torch.allclose(found.of([0, 1])[0], torch.full((2, 2), 0.5), atol=1e-6)
    # Control: the other half of the guidance, had it been looked at, would have said something else.
    other = heat_maps(ToyDenoiser(), noise, toy_context(5.0, -5.0), toy_context(1.0, 0.0), 3, 4.0)
    assert not torch.allclose(other.maps, found.maps, atol=0.1)


def test_cosines_of_a_hand_made_attention():
    q = torch.tensor([[[[3.0, 0.0], [0.0, 2.0]]]])
    k = torch.tensor([[[[1.0, 1.0], [-4.0, 0.0]]]])
    # By hand: cos = 1/sqrt 2 for both pixels with the first key, -1 and 0 with the second.
    assert torch.allclose(cosine(q, k[:, :, :1]), torch.tensor([math.sqrt(0.5)]))
    assert torch.allclose(cosine(q, k), torch.tensor([(2 * math.sqrt(0.5) - 1) / 4]))
    assert torch.allclose(cosine(q * 7, k * 0.1), cosine(q, k))


def drawn(tiny, edit=None, hidden=None, seed=0):
    context, negative = tiny.encode([PROMPT] * 2), tiny.encode([""])
    if hidden is not None:
        context, negative = hidden.extend(context), hidden.extend(negative)
    noise = noise_for(tiny.latent_shape, seed, [0, 1])
    return noise, context, negative


def test_a_negative_half_of_another_length_is_not_looked_at(tiny):
    noise, context, _ = drawn(tiny, hidden=hidden_prompt(tiny, 1.0))
    negative, word = tiny.encode([""]), {"first": [1]}
    assert negative.tokens.shape[1] != context.tokens.shape[1]
    # At the first step guidance changes no latents yet, so what is seen must be what is seen without any.
    alone, guided = (heat_maps(tiny, noise, context, negative, 1, scale) for scale in (1.0, 3.0))
    assert torch.allclose(alone.maps, guided.maps, atol=1e-5) and not torch.allclose(alone.latents, guided.latents)
    one, two = (cosines(tiny, noise, context, negative, 1, scale, word).values["first"] for scale in (1.0, 3.0))
    assert torch.allclose(one, two, atol=1e-5)


def test_watching_changes_no_picture_and_leaves_no_hook(tiny):
    noise, context, negative = drawn(tiny)
    found = heat_maps(tiny, noise, context, negative, 3, 3.0)
    assert torch.equal(found.latents, sample(tiny, noise, context, negative, 3, 3.0))
    assert found.maps.shape == (2, context.tokens.shape[1], *tiny.latent_shape[1:])
    # Every pixel's weights add up to 1 at the latents' own size; upsampled blocks overshoot a little.
    assert torch.allclose(found.maps.sum(1), torch.ones(2, *tiny.latent_shape[1:]), atol=0.05)

    def hooks(network):
        return sum(len(module._forward_hooks) for module in network.modules())

    assert hooks(tiny.network) == 0
    with pytest.raises(RuntimeError, match="stop"), attn2_calls(tiny.network, lambda *_: None):
        assert hooks(tiny.network) > 0
        raise RuntimeError("stop")
    assert hooks(tiny.network) == 0


def a_key_edit(tiny, scale=0.5):
    generator = torch.Generator().manual_seed(1)
    weights = {k: w for k, w in tiny.weights("xattn-kv").items() if k.endswith("to_k.weight")}
    return FrozenEdit({k: torch.randn(w.shape, generator=generator) * scale for k, w in weights.items()})


def test_under_an_edit_the_keys_are_those_of_the_edited_weights(tiny):
    noise, context, _ = drawn(tiny)
    edit = a_key_edit(tiny)
    keys: dict[str, torch.Tensor] = {}

    def take(block, q, k):
        keys[block] = k.transpose(1, 2).flatten(2)

    t = torch.tensor([500, 500])
    with attn2_calls(tiny.network, take), torch.no_grad():
        tiny.predict(noise, t, context, edit)
    changed = dict(keys)
    with attn2_calls(tiny.network, take), torch.no_grad():
        tiny.predict(noise, t, context)
    names = {own.removesuffix(".to_k.weight"): key for key, (own,) in tiny._wiring.names.items() if key in edit.deltas}
    assert set(names) == set(changed)
    for block, key in names.items():
        w = tiny.weights("xattn-kv")[key]
        assert torch.allclose(changed[block], context.tokens @ (w + edit.deltas[key]).T, atol=1e-5)
        # Negative control: without the edit the same hooks see W, and W is not W'.
        assert torch.allclose(keys[block], context.tokens @ w.T, atol=1e-5)
        assert not torch.allclose(changed[block], keys[block], atol=0.05)


def test_maps_answer_to_an_edit_of_the_keys_and_not_to_a_zero_edit(tiny):
    noise, context, negative = drawn(tiny)
    before = heat_maps(tiny, noise, context, negative, 2, 3.0).maps
    zero = FrozenEdit({k: d * 0 for k, d in a_key_edit(tiny).deltas.items()})
    assert torch.allclose(heat_maps(tiny, noise, context, negative, 2, 3.0, zero).maps, before, atol=1e-6)
    assert not torch.allclose(
        heat_maps(tiny, noise, context, negative, 2, 3.0, a_key_edit(tiny)).maps, before, atol=0.01
    )


def hidden_prompt(tiny, scale=1.0):
    tokens = torch.randn(4, 32, generator=torch.Generator().manual_seed(2)) * scale
    return HiddenPrompt("a church", tokens, "concatenative", tiny.tokens_per_chunk)


def test_a_hidden_prompt_takes_its_own_share_of_the_attention(tiny):
    plain = drawn(tiny)[1]
    noise, context, negative = drawn(tiny, hidden=hidden_prompt(tiny))
    found = heat_maps(tiny, noise, context, negative, 2, 3.0)
    p = added_positions(plain, context)
    assert list(p) == [16, 17, 18, 19]
    total = found.maps.sum(1).mean()
    assert total.item() == pytest.approx(1, abs=0.05)
    share = found.maps[:, list(p)].sum(1).mean() / total
    assert 0.05 < share < 0.6
    additive = HiddenPrompt("a church", torch.zeros(16, 32), "additive", 16).extend(plain)
    assert len(added_positions(plain, additive)) == 0


def test_cosines_follow_every_block_and_step(tiny):
    plain = drawn(tiny)[1]
    noise, context, negative = drawn(tiny, hidden=hidden_prompt(tiny))
    word = word_positions(tiny, PROMPT, "church")
    groups = {"word": word, "p": added_positions(plain, context)}
    found = cosines(tiny, noise, context, negative, 3, 3.0, groups)
    assert found.timesteps == tuple(tiny.schedule.grid(3).tolist())
    assert found.values["word"].shape == found.values["p"].shape == (len(found.blocks), 3, 2)
    assert found.curves("p").shape == (len(found.blocks), 3)
    # Independent: one block, first step, every cosine by the library's own function and then averaged.
    calls: list[tuple[str, torch.Tensor, torch.Tensor]] = []
    both = Context.cat([negative.expand(2), context])
    t = torch.full((4,), found.timesteps[0])
    with attn2_calls(tiny.network, lambda *call: calls.append(call)), torch.no_grad():
        tiny.predict(torch.cat([noise, noise]), t, both)
    block, q, k = calls[-1]
    pairs = torch.nn.functional.cosine_similarity(q[2:, :, :, None], k[2:, :, None, list(groups["p"])], dim=-1)
    assert torch.allclose(found.values["p"][found.blocks.index(block), 0], pairs.mean((1, 2, 3)), atol=1e-5)
    # Control: the same keys turned round give the opposite sign.
    turned = hidden_prompt(tiny, -1.0)
    ahead, behind = plain, drawn(tiny, hidden=turned)[1]
    opposite = cosines(
        tiny, noise, behind, turned.extend(tiny.encode([""])), 1, 1.0, {"p": added_positions(ahead, behind)}
    )
    same = cosines(tiny, noise, context, negative, 1, 1.0, {"p": groups["p"]})
    assert torch.allclose(opposite.values["p"][0], -same.values["p"][0], atol=1e-5)


def test_groups_must_name_tokens_of_the_context(tiny):
    noise, context, negative = drawn(tiny)
    for positions in ([], [16]):
        with pytest.raises(RequestError, match="names no tokens"):
            cosines(tiny, noise, context, negative, 1, 1.0, {"p": positions})


def test_words_are_found_by_the_models_own_tokens(tiny):
    assert list(word_positions(tiny, PROMPT, "church")) == [5]
    assert list(word_positions(tiny, PROMPT, "Drawing")) == [2]
    assert list(word_positions(tiny, PROMPT, "a church")) == [4, 5]
    for wrong in ("chur", "guitar", " "):
        with pytest.raises(RequestError, match="has no word"):
            word_positions(tiny, PROMPT, wrong)
    with pytest.raises(RequestError, match="beyond the tokens"):
        word_positions(tiny, "a drawing of " * 6 + "a church", "church")


def test_maps_are_placed_by_the_blocks_own_size():
    assert upsample(torch.ones(1, 2, 12), 6, 8).shape == (1, 2, 6, 8)
    odd = upsample(torch.rand(1, 1, 3 * 5), 5, 9)  # halved with rounding up, as a strided convolution does
    assert odd.shape == (1, 1, 5, 9)
    corner = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])
    placed = upsample(corner, 4, 4)[0, 0]
    assert placed.argmax() == 15 and placed.min() >= 0 and placed[:2, :2].sum() < placed[2:, 2:].sum() / 10
    with pytest.raises(ModelError, match="does not fit"):
        upsample(torch.ones(1, 1, 7), 8, 8)


def test_the_share_on_a_silhouette_by_hand():
    picture = torch.ones(1, 3, 4, 4)
    picture[:, 1, :2] = 0.2  # the upper half is coloured
    mask = silhouette(picture)
    assert mask[0].sum() == 8
    maps = torch.tensor([[[3.0, 1.0], [0.0, 4.0]]])
    assert share_on(maps, mask).item() == pytest.approx(0.5)
    assert share_on(torch.ones(1, 2, 2), torch.zeros(1, 4, 4)).item() == 0
    shown = overlay(torch.ones(1, 3, 4, 4), maps)[0]
    assert (shown[0, 3, 3], shown[2, 3, 3]) == (1.0, 0.5)  # red where the map is highest
    assert (shown[0, 3, 0], shown[2, 3, 0]) == (0.5, 1.0)  # blue where it is 0


def test_a_network_without_cross_attention_is_refused():
    with pytest.raises(ModelError, match="attn2"), attn2_calls(nn.Linear(1, 1), lambda *_: None):
        pass


def test_probabilities_are_the_attentions_own(tiny):
    """Worked against diffusers: with probabilities and values of our own the block's output is the same."""
    network = tiny.network
    name, block = next((n, m) for n, m in network.named_modules() if n.endswith("attn2"))
    calls = {}
    outputs = {}
    hook = block.register_forward_hook(lambda _m, _i, out: outputs.update(out=out))
    noise, context, _ = drawn(tiny)
    try:
        with attn2_calls(network, lambda b, q, k: calls.setdefault(b, (q, k))), torch.no_grad():
            tiny.predict(noise, torch.tensor([300, 300]), context)
    finally:
        hook.remove()
    q, k = calls[name]
    v = block.to_v(context.tokens).unflatten(-1, (block.heads, -1)).transpose(1, 2)
    ours = block.to_out[0]((probabilities(q, k) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(outputs["out"], ours, atol=1e-5)
