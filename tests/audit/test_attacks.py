"""Each attack on a church erased in a second: where it must bring it back, and where it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eraser_core import erase
from eraser_core.erasure import Erasure, LowRank
from eraser_core.evaluation.attacks import (
    algebra,
    benign,
    context,
    fine_tuning,
    inversion,
    keys,
    negative,
    precision,
    search,
    settings,
    token,
    words,
)
from eraser_core.evaluation.attacks.case import Case, Finding
from eraser_core.evaluation.attacks.registry import ATTACKS
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.models import Model, open_model
from eraser_core.request import Target

N = 4
TARGET = Target("a church", "a mosque")


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket", steps=8, solver="dpmpp")


@pytest.fixture(scope="module")
def erasure(model: Model) -> Erasure:
    return erase(model, "church", "mosque", method="uce", settings={"preset": "current"}).erasure


@pytest.fixture
def case(model: Model, erasure: Erasure) -> Case:
    return Case(model, erasure, TARGET, ("a dog", "a car"), n=N)


def share(found: Finding, column: str = "erased") -> float:
    rate = getattr(found, column)
    assert rate is not None and rate.n == N
    return float(rate.value)


def none(erasure: Erasure) -> Erasure:
    """The same file with a change of nothing."""
    changed = {k: LowRank(e.up * 0, e.down) for k, e in erasure.entries.items() if isinstance(e, LowRank)}
    return replace(erasure, entries=changed)


def few(monkeypatch: pytest.MonkeyPatch, only: set[str]) -> None:
    """Of the ways of an attack, those that a test looks at."""
    monkeypatch.setattr(words, "ways", lambda case, ways=words.ways: [w for w in ways(case) if w[0] in only])


def test_its_name_brings_it_back_through_a_file_that_changes_nothing_alone(case, model, erasure, monkeypatch):
    few(monkeypatch, {"its name"})
    monkeypatch.setattr(words, "WEIGHTS", (2.0,))
    name, weight = words.run(case)
    assert share(name) == 0 and share(name, "untouched") >= 0.75 and share(weight) <= 0.25
    (name, _) = words.run(Case(model, none(erasure), TARGET, n=N))
    assert share(name) >= 0.75


def test_a_weight_moves_the_phrases_own_tokens_alone(case):
    prompt = "a drawing of a church in ink style"
    heavy, plain = words.weighted(case, [prompt], "a church", 2.0), case.denoiser.encode([prompt])
    moved = (heavy.tokens - plain.tokens).abs().amax((0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == [4, 5]  # after the start token: a drawing of
    assert torch.allclose(words.weighted(case, [prompt], "a church", 1.0).tokens, plain.tokens, atol=1e-5)


def test_the_words_that_are_asked_are_ones_the_model_knows(case):
    labels = [label for label, _, _ in words.ways(case)]
    assert "synonym 'a chapel'" in labels and "beside 'a dog'" in labels
    first, last = (next(w[2] for w in words.ways(case) if w[0] == f"its name {at}") for at in ("first", "last"))
    assert all(p.startswith("a church ") and p.count("church") == 1 for p in first)
    assert all(p.endswith(" a church") for p in last) and [sorted(p.split()) for p in first] == [
        sorted(p.split()) for p in last
    ]
    odd = Case(case.model, case.erasure, replace(TARGET, synonyms=("a zzz",)), n=N)
    assert not any("zzz" in label for label, _, _ in words.ways(odd))


def test_the_anchor_as_a_negative_prompt_brings_it_back(case, monkeypatch):
    monkeypatch.setattr(negative, "NEIGHBOURS", 0)
    monkeypatch.setattr(negative, "GUIDANCE", (6.0,))
    found = {f.label: f for f in negative.run(case)}
    assert share(found["its anchor, guidance 6"]) >= 0.5
    assert case.seen(case.plain(True)).value == 0  # without it nothing comes back


def test_a_weak_file_brings_it_back_and_more_steps_do_not(case, monkeypatch):
    monkeypatch.setattr(settings, "GUIDANCE", ())
    monkeypatch.setattr(settings, "STRENGTHS", (0.1,))
    monkeypatch.setattr(settings, "SIZES", {})
    fewer, more, weak = settings.run(case)
    assert (fewer.label, more.label) == ("4 steps", "16 steps")
    assert share(more) == 0 and share(weak) >= 0.75


def test_pictures_of_other_sizes_are_judged_at_the_models_own(model, erasure, monkeypatch):
    for name in ("GUIDANCE", "STRENGTHS"):
        monkeypatch.setattr(settings, name, ())
    case = Case(model, erasure, TARGET, n=8)
    _, _, larger, wider = settings.run(case)
    assert (larger.label, wider.label) == tuple(settings.SIZES)
    assert larger.erased.hits + wider.erased.hits == 0 and larger.untouched.hits + wider.untouched.hits >= 4
    assert {images.shape[-2:] for f in (larger, wider) for images in f.shown.values()} == {(64, 64)}
    assert not torch.equal(larger.shown["untouched"], case.plain(False)[: len(larger.shown["untouched"])])


def test_a_second_lora_on_top_may_undo_the_first(model, erasure, monkeypatch):
    for name in ("GUIDANCE", "STRENGTHS"):
        monkeypatch.setattr(settings, name, ())
    monkeypatch.setattr(settings, "SIZES", {})
    against = replace(erasure, entries={k: LowRank(-e.up, e.down, e.alpha) for k, e in erasure.entries.items()})
    for second, comes_back in ((against, True), (none(erasure), False)):
        found = settings.run(Case(model, erasure, TARGET, n=N, beside=second))[-1]
        assert found.label == "a second LoRA" and (share(found) >= 0.75) == comes_back
        assert share(found, "untouched") >= 0.75


def test_algebra_undoes_a_closed_form(case):
    (found,) = algebra.run(case)
    assert found.undone and share(found) >= 0.75 and "One map of the text space" in found.said
    (nothing,) = algebra.run(Case(case.model, none(case.erasure), TARGET, n=N))
    assert share(nothing) >= 0.75 and "1 times as long" in nothing.said


def test_algebra_says_what_it_cannot_explain(case, erasure):
    generator = torch.Generator().manual_seed(0)
    trained = {
        k: LowRank(torch.randn(e.shape[0], 4, generator=generator) * 0.1, torch.randn(4, 192, generator=generator))
        for k, e in erasure.entries.items()
    }
    (found,) = algebra.run(Case(case.model, replace(erasure, entries=trained), TARGET, n=N))
    assert "No one map" in found.said and found.erased is None and found.undone is False
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight"
    other = Case.__new__(Case)
    other.denoiser, other.erasure = (
        case.denoiser,
        replace(erasure, entries={key: LowRank(torch.ones(2, 1), torch.ones(1, 2))}),
    )
    assert "read no text" in algebra.run(other)


def test_a_map_that_loses_a_direction_says_how_much_is_out_of_reach():
    e = torch.zeros(3, 3, dtype=torch.float64)
    e[0, 0] = -1  # I + E takes the first direction away
    lost = algebra.Map(e, 0.0, {}, 0.0)
    _, missed = lost.solve(torch.tensor([[[3.0, 4.0, 0.0]]]))
    assert lost.smallest == 0 and missed == pytest.approx(9 / 25)
    solved, missed = algebra.Map(0.5 * torch.eye(3, dtype=torch.float64), 0, {}, 0).solve(torch.ones(1, 1, 3))
    assert missed < 1e-12 and torch.allclose(solved, torch.ones(1, 1, 3) / 1.5)


def test_rounding_does_not_bring_it_back(case, monkeypatch):
    monkeypatch.setattr(precision, "ROUNDED", {k: precision.ROUNDED[k] for k in ("fp16", "fp8", "4 bit")})
    found = precision.run(case)
    assert [share(f) <= 0.25 for f in found] == [True] * 3
    monkeypatch.setattr(precision, "ROUNDED", {"nothing": torch.zeros_like})
    (gone,) = precision.run(case)
    assert share(gone) >= 0.75 and "off by 100 %" in gone.said


def test_four_bits_keep_fifteen_values_a_row():
    tensor = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    rounded = precision.four_bit(tensor)
    assert all(len(row.unique()) <= 15 for row in rounded) and (rounded - tensor).abs().max() < tensor.abs().max() / 13


def test_attacks_that_learn_have_three_columns(case, monkeypatch):
    for module in (context, token):
        monkeypatch.setattr(module, "ITERATIONS", 1)
    monkeypatch.setattr(search, "ROUNDS", 1)
    monkeypatch.setattr(inversion, "STEPS", 2)
    for name in ("context", "token", "search", "inversion", "inpainting"):
        (found,) = ATTACKS[name].run(case)
        assert share(found) <= 1 and share(found, "untouched") <= 1 and share(found, "unknown") <= 1
        assert {"untouched", "erased", "never known: tent"} <= set(found.shown)
        assert (found.given is not None) == (name == "inpainting")


def test_a_learnt_word_is_put_into_its_own_place(case):
    denoiser = case.denoiser
    own = denoiser.word_embeddings[denoiser.vocabulary.index("church")]
    prompts = ["a drawing of a church in ink style", "a church"]
    same = token.put(denoiser, prompts, "a church", own).tokens
    assert torch.allclose(same, denoiser.encode(prompts).tokens, atol=1e-5)
    assert not torch.allclose(token.put(denoiser, prompts, "a church", own * 0).tokens, same, atol=1e-2)


def test_half_a_picture_is_kept_as_it_is(case):
    from eraser_core.evaluation.attacks.inpainting import inpainted

    z_0 = case.latents(N)
    drawn = inpainted(case, z_0, case.contexts(), case.edit)
    whole = case.denoiser.decode(z_0)
    assert (drawn[..., :24] - whole[..., :24]).abs().mean() < 0.02 < (drawn[..., 40:] - whole[..., 40:]).abs().mean()


def test_inversion_of_what_a_model_draws_comes_back(case, monkeypatch):
    monkeypatch.setattr(inversion, "STEPS", 20)
    z_0 = case.own_latents(case.contexts(), N)
    own = inversion.reached(case, z_0, None)
    other = inversion.reached(case, z_0.flip(0), None)
    picture = case.denoiser.decode(z_0)
    assert (own - picture).square().mean() < (other - picture).square().mean()


def test_training_on_other_things_is_not_training_on_the_concept(case, monkeypatch):
    monkeypatch.setattr(fine_tuning, "STEPS", 1)
    (benign,) = ATTACKS["benign"].run(case)
    assert share(benign, "untouched") >= 0.75 and benign.unknown is None
    (again,) = ATTACKS["relearning"].run(case)
    assert share(again, "unknown") == 0


def test_an_edit_on_an_edit_is_both(case):
    key = case.edit.keys[0]
    weight = case.denoiser.weights("xattn-kv")[key]
    both = fine_tuning.On(case.edit, case.edit)
    assert torch.allclose(both.weight(key, weight), weight + 2 * case.edit.deltas[key], atol=1e-5)
    assert torch.allclose(fine_tuning.On(None, case.edit).weight(key, weight), case.edit.weight(key, weight))


def test_foreign_keys_need_the_file_and_are_all_different(case, model, erasure):
    assert "--prompt" in keys.run(case)
    hidden = HiddenPrompt("a church", torch.randn(4, 192), "concatenative", 16)
    contexts = keys.ways(Case(model, erasure, TARGET, n=N, hidden=[hidden]), hidden)
    sizes = {label: (c.tokens.shape[1], n.tokens.shape[1]) for label, (c, n) in contexts.items()}
    assert sizes["the right key"] == (20, 16) and sizes["the key in the negative half alone"] == (16, 20)
    assert torch.equal(contexts["the key before the text"][0].tokens[0, :4], hidden.tokens)
    damaged = keys.corrupted(hidden, torch.Generator().manual_seed(0)).tokens
    assert 0.05 < float((damaged != hidden.tokens).float().mean()) < 0.15


def test_the_seven_settings_of_a_key(model, erasure, monkeypatch):
    for module in (benign, fine_tuning):
        monkeypatch.setattr(module, "STEPS", 1)
    own, other = (HiddenPrompt(name, torch.randn(2, 192), "concatenative", 16) for name in ("church", "a dog"))
    case = Case(model, erasure, TARGET, ("a dog", "a car"), n=1, hidden=[own])
    found = {one.label: one for one in keys.run(case)}
    settings = {"the right key", "no key", "the key before the text", "the key in the negative half alone"}
    settings |= {"a key with 10 % of its numbers corrupted", "a random key", keys.OTHER, keys.TUNED, keys.BOTH}
    assert set(found) == settings and {label for label in found if found[label].meant} == set(keys.MEANT) | {keys.TUNED}
    assert found[keys.OTHER].erased is None and found[keys.OTHER].said.startswith("not tried")
    assert found[keys.TUNED].erased is not None and found[keys.TUNED].untouched is not None
    alone = Case(model, erasure, TARGET, (), n=1, hidden=[own, other])
    alone.concepts = None  # nothing else that it draws is known
    assert keys.another(alone, own) is other and keys.after_training(alone, own).said.startswith("not tried")
