"""UCE, TIME and Double Projections against their definitions, in float64 on random matrices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eraser_core.denoiser import Edit
from eraser_core.erasing import erase
from eraser_core.errors import RequestError
from eraser_core.methods import METHODS, double_projection, time, uce
from eraser_core.request import Request, Target
from eraser_core.text_space import TextSpace, compact, gather

D, OUT = 24, 10


def space(n=3, m=5, d=D) -> TextSpace:
    generator = torch.Generator().manual_seed(0)
    c, g, p = (torch.randn(d, k, generator=generator, dtype=torch.float64) for k in (n, n, m))
    return TextSpace(c, g, p, torch.ones(n, dtype=torch.bool))


@pytest.fixture
def w():
    return torch.randn(OUT, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def edited(w, left, right):
    return w + w @ left @ right.T


def test_uce_solves_its_normal_equations(w):
    s, l, s_e, s_p = space(), 0.5, 1.3, 0.7
    new = edited(w, *uce.solve(s, l, s_e, s_p))
    m = l * torch.eye(D) + s_e * s.c @ s.c.T + s_p * s.p @ s.p.T
    wanted = l * w + s_e * (w @ s.g) @ s.c.T + s_p * (w @ s.p) @ s.p.T
    assert torch.allclose(new @ m, wanted, atol=1e-8)
    assert not torch.allclose(w @ m, wanted, atol=1e-2)


def test_an_overshoot_moves_what_each_token_becomes_past_its_anchor(w):
    s, b = space(), 0.5
    past = replace(s, g=s.g + b * (s.g - s.c))
    for solve in (
        lambda x, b: uce.solve(x, 0.5, 1.3, 0.7, b),
        lambda x, b: time.solve(x, 0.1, b),
        lambda x, b: double_projection.solve(x, 1, 1.0, b),
    ):
        new = edited(w, *solve(s, b))
        assert torch.allclose(new, edited(w, *solve(past, 0.0)), atol=1e-9)
        assert not torch.allclose(new, edited(w, *solve(s, 0.0)), atol=1e-3)


def test_uce_is_the_minimum_of_its_objective(w):
    s, l, s_e, s_p = space(), 0.5, 1.3, 0.7

    def loss(x):
        erase_, keep = (x @ s.c - w @ s.g).pow(2).sum(), (x @ s.p - w @ s.p).pow(2).sum()
        return s_e * erase_ + s_p * keep + l * (x - w).pow(2).sum()

    x = edited(w, *uce.solve(s, l, s_e, s_p)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), [x])
    assert gradient.abs().max() < 1e-8
    assert loss(x + 0.01) > loss(x) and loss(w) > loss(x)


def test_a_preserved_token_stays_as_its_weight_grows_and_an_erased_one_becomes_its_anchor(w):
    s = space()

    def moved(s_e, s_p):
        new = edited(w, *uce.solve(s, 0.5, s_e, s_p))
        return float((new @ s.p - w @ s.p).norm()), float((new @ s.c - w @ s.g).norm())

    assert moved(1.0, 1e8)[0] < 1e-6 < moved(1.0, 1.0)[0]
    assert moved(1e8, 1.0)[1] < 1e-6 < moved(1.0, 1.0)[1]


def test_uce_of_one_token_by_hand(w):
    """One token, nothing preserved: W' = W + W (g - c) c^T s / (l + s |c|^2)."""
    s = space(1, 0)
    new = edited(w, *uce.solve(s, 0.5, 2.0, 1.0))
    assert torch.allclose(new, w + w @ (s.g - s.c) @ s.c.T * 2 / (0.5 + 2 * (s.c**2).sum()), atol=1e-10)


def test_time_solves_its_normal_equations_and_is_uce_without_a_retain_set(w):
    s = space()
    new = edited(w, *time.solve(s, 0.1))
    m = 0.1 * torch.eye(D) + s.c @ s.c.T
    assert torch.allclose(new @ m, 0.1 * w + w @ s.g @ s.c.T, atol=1e-8)
    alone = TextSpace(s.c, s.g, s.p[:, :0], s.anchored)
    assert torch.allclose(new, edited(w, *uce.solve(alone, 0.1, 1.0, 1.0)), atol=1e-9)
    assert not torch.allclose(new, edited(w, *uce.solve(s, 0.1, 1.0, 1.0)), atol=1e-3)


def test_double_projections_keeps_exactly_and_erases_exactly(w):
    s = space(1, 5)
    new = edited(w, *double_projection.solve(s, 1, 1.0))
    assert torch.allclose(new @ s.p, w @ s.p, atol=1e-9)
    assert torch.allclose(new @ s.c, w @ s.g, atol=1e-9)
    soft = edited(w, *uce.solve(s, 0.5, 1.0, 1.0))
    assert not torch.allclose(soft @ s.p, w @ s.p, atol=1e-4)


def test_double_projections_with_an_anchor_among_the_kept_is_singular():
    s = space(1, 5)
    inside = TextSpace(s.c, s.p[:, :1], s.p, s.anchored)

    def smallest(x):
        left, right = double_projection.solve(x, 1, 1.0)
        return float(torch.linalg.svdvals(torch.eye(D, dtype=torch.float64) + left @ right.T)[-1])

    assert smallest(inside) < 1e-12 < smallest(s)


def test_double_projections_without_an_anchor_projects_on_the_kept_span(w):
    s = space(1, 5)
    new = edited(w, *double_projection.solve(replace(s, anchored=~s.anchored), 1, 1.0))
    projected = s.p @ torch.linalg.lstsq(s.p, s.c).solution
    assert torch.allclose(new @ s.c, w @ projected, atol=1e-9)


def test_each_concept_keeps_its_own_anchor_beside_one_that_has_none(w):
    s = space(2, 5)
    new = edited(w, *double_projection.solve(replace(s, anchored=torch.tensor([True, False])), 2, 1.0))
    projected = s.p @ torch.linalg.lstsq(s.p, s.c).solution
    assert torch.allclose(new @ s.c[:, 0], w @ s.g[:, 0], atol=1e-9)
    assert torch.allclose(new @ s.c[:, 1], w @ projected[:, 1], atol=1e-9)
    assert not torch.allclose(new @ s.c[:, 1], w @ s.g[:, 1], atol=1e-3)


def test_the_null_space_of_many_tokens_is_that_of_few(w):
    few = torch.randn(D, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    many = few @ torch.randn(5, 3 * D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for tokens in (few, many):
        span, null = double_projection.span_and_null(tokens, 1.0)
        assert span.shape == (D, 5) and null.shape == (D, D - 5)
        assert (null.T @ few).abs().max() < 1e-9


def test_too_many_kept_concepts_leave_nothing_to_erase_in():
    with pytest.raises(RequestError, match="null space"):
        double_projection.solve(space(1, D), 1, 1.0)


def test_compacting_is_exact_and_as_short_as_the_rank():
    left, right = torch.randn(D, 40, dtype=torch.float64), torch.randn(D, 40, dtype=torch.float64)
    left[:, 3:] = left[:, :1]
    short = compact(left, right)
    assert short[0].shape == (D, 3)
    assert torch.allclose(short[0] @ short[1].T, left @ right.T, atol=1e-9)


def test_the_last_subject_token_needs_only_the_prompt_up_to_it(tiny):
    request = Request((Target("a light bulb", "a lock", templates=("a drawing of {} in ink style",)),))
    cut = gather(tiny, request, "last", "last").c[:, 0]
    whole = tiny.encode(["a drawing of a light bulb in ink style"]).tokens[0].double()
    where = tiny.token_count("a drawing of a light bulb") - 1
    assert torch.allclose(cut, whole[where], atol=1e-5)
    assert not torch.allclose(cut, whole[where - 1], atol=1e-2)


@pytest.mark.parametrize(
    ("name", "values"), [("uce", {"preset": "current"}), ("uce", {}), ("time", {}), ("dp", {})], ids=str
)
@pytest.mark.parametrize("anchor", ["a castle", ""])
def test_a_closed_form_erases_on_a_model_and_keeps_rank_within_the_tokens(tiny, name, values, anchor):
    request = Request((Target("a church", anchor),), ("a dog",))
    result = erase(tiny, request, METHODS[name], METHODS[name].configure("pocket", values), dtype=torch.float32)
    entry = next(iter(result.erasure.entries.values()))
    assert entry.down.shape[0] <= {"uce": 1 if values else 16, "dp": 4, "time": 16}[name]
    edit: Edit = result.erasure.as_edit()
    z, t = torch.zeros(1, *tiny.latent_shape), torch.tensor([400])

    def change(prompt):
        context = tiny.encode([prompt])
        return float((tiny.predict(z, t, context, edit) - tiny.predict(z, t, context)).norm())

    assert change("a church") > 1e-4
    if name == "dp":
        assert change("a dog") < 0.05 * change("a church")


def test_two_concepts_are_solved_together(tiny):
    two = Request((Target("a church", "a castle"), Target("a dog", "a cat")))
    entry = next(
        iter(
            erase(
                tiny, two, METHODS["uce"], METHODS["uce"].configure("pocket", {"preset": "current"})
            ).erasure.entries.values()
        )
    )
    assert entry.down.shape[0] == 2


def test_layers_choose_what_is_edited(tiny):
    request = Request((Target("a church", "a castle"),))
    result = erase(tiny, request, METHODS["time"], METHODS["time"].configure("pocket", {"layers": "v"}))
    assert all(".to_v." in key for key in result.erasure.entries) and len(result.erasure.entries) == 7


def test_one_concept_and_several_are_moved_past_their_anchors(tiny):
    guitar, church = Target("a guitar", "a violin", (), ("{}",)), Target("a church", "a mosque", (), ("{}",))

    def change(targets, **values):
        made = erase(tiny, Request(targets, ("a bus",)), METHODS["uce"], METHODS["uce"].settings(**values)).erasure
        return next(iter(made.entries.values())).delta()

    for targets in ((guitar,), (guitar, church)):
        ours, papers = change(targets), change(targets, overshoot=0.0)
        assert torch.allclose(ours, 1.3 * papers, rtol=1e-2, atol=1e-3 * float(papers.abs().max()))
        assert not torch.allclose(ours, papers, rtol=1e-2)
    said = METHODS["uce"].settings(preset="paper", s_p=0.2).model_dump()  # what the file and the node say
    assert (said["l"], said["s_p"], said["overshoot"]) == (0.1, 0.2, 0.0)
    alone = change((guitar,), preset="current")
    assert torch.allclose(alone, change((guitar,), preset="current", overshoot=0.0))  # the authors' code has none
