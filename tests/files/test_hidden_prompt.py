"""How the hidden prompt joins a context."""

import pytest
import torch

from eraser_core.denoiser import Context
from eraser_core.errors import RequestError
from eraser_core.hidden_prompt import HiddenPrompt, extend, first_prompt
from eraser_core.sampling import guided


def prompt(mechanism="concatenative", k=3, chunk=4):
    return HiddenPrompt("x", torch.randn(k if mechanism == "concatenative" else chunk, 5), mechanism, chunk)


def test_concatenative_is_cat_of_context_and_prompt():
    context, p = Context(torch.randn(2, 4, 5), torch.randn(2, 7)), prompt()
    extended = p.extend(context)
    assert torch.equal(extended.tokens, torch.cat([context.tokens, p.tokens.expand(2, -1, -1)], 1))
    assert extended.pooled is context.pooled


def test_additive_adds_a_row_to_every_token():
    context, p = Context(torch.randn(2, 4, 5)), prompt("additive")
    assert torch.equal(p.extend(context).tokens, context.tokens + p.tokens)


def test_a_longer_prompt_gets_p_once_a_chunk():
    context = Context(torch.randn(1, 8, 5))
    assert prompt().extend(context).tokens.shape == (1, 8 + 2 * 3, 5)
    p = prompt("additive")
    assert torch.equal(p.extend(context).tokens[:, 4:], context.tokens[:, 4:] + p.tokens)


def test_strength_0_leaves_the_prompt_out_and_others_scale_it():
    context, p = Context(torch.randn(1, 4, 5)), prompt()
    assert p.extend(context, 0.0) is context
    assert torch.equal(p.extend(context, 0.5).tokens[:, 4:], 0.5 * p.tokens[None])


def test_concatenating_before_w_k_is_the_slides_attention():
    """Softmax over W_k cat(C, p) by hand equals attention on the extended context; a zero prompt is not the identity."""
    c, p, w_k, w_v, q = torch.randn(1, 4, 5), prompt(), torch.randn(6, 5), torch.randn(6, 5), torch.randn(1, 9, 6)

    def attend(tokens):
        return torch.nn.functional.scaled_dot_product_attention(q, tokens @ w_k.T, tokens @ w_v.T)

    key = torch.cat([c @ w_k.T, p.tokens[None] @ w_k.T], 1)
    value = torch.cat([c @ w_v.T, p.tokens[None] @ w_v.T], 1)
    by_hand = torch.softmax(q @ key.transpose(1, 2) / 6**0.5, -1) @ value
    assert torch.allclose(attend(p.extend(Context(c)).tokens), by_hand, atol=1e-5)
    assert not torch.allclose(attend(extend(Context(c), torch.zeros(3, 5), "concatenative", 4).tokens), attend(c))


def test_the_start_is_noise_of_the_embeddings_spread_and_its_seed_is_its_own():
    like = torch.randn(1, 16, 64) * 0.3
    one, seed = first_prompt(2, 50, "concatenative", like, 16, 11)
    assert seed == 11 and one.shape == (2, 50, 64)
    assert abs(float(one.std()) - float(like.std())) < 0.02
    assert torch.equal(one, first_prompt(2, 50, "concatenative", like, 16, 11)[0])
    assert not torch.equal(one, first_prompt(2, 50, "concatenative", like, 16, None)[0])
    assert first_prompt(1, 9, "additive", like, 16, 1)[0].shape == (1, 16, 64)


def test_a_forged_prompt_has_the_norms_and_nothing_else():
    p = prompt()
    forged = p.forged(torch.Generator().manual_seed(1))
    assert torch.allclose(forged.tokens.norm(dim=-1), p.tokens.norm(dim=-1), rtol=1e-5)
    assert torch.cosine_similarity(forged.tokens, p.tokens, dim=-1).abs().max() < 0.99


def test_a_prompt_for_another_text_encoder_is_refused():
    with pytest.raises(RequestError, match="another model"):
        prompt().extend(Context(torch.randn(1, 4, 6)))


def test_the_negative_half_gets_the_prompt_only_when_both_are_asked_for():
    p, context, negative = prompt(), Context(torch.randn(2, 4, 5)), Context(torch.randn(1, 4, 5))
    positive, plain = p.join(context, negative)
    assert torch.equal(positive.tokens, p.extend(context).tokens) and plain is negative
    assert torch.equal(p.join(context, negative, halves="both")[1].tokens, p.extend(negative).tokens)


def test_guidance_of_contexts_of_two_lengths_is_the_formula(tiny):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, *tiny.latent_shape, generator=generator)
    t, context, negative = torch.tensor([500, 20]), tiny.encode(["a church", "a dog"]), tiny.encode([""]).expand(2)
    longer = context.with_tokens(torch.cat([context.tokens, context.tokens[:, :3]], 1))
    null, positive = tiny.predict(z, t, negative), tiny.predict(z, t, longer)
    assert torch.allclose(guided(tiny, z, t, longer, negative, 3.0, None), null + 3 * (positive - null), atol=1e-6)
    assert not torch.allclose(positive, tiny.predict(z, t, context), atol=1e-4)
