"""A change confined to the texts that it is for: as before on the concepts, next to nothing on the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eraser_core.erasing import configure, erase, resume
from eraser_core.erasure import Dense, Entry, Erasure, FrozenEdit, LowRank
from eraser_core.errors import RequestError
from eraser_core.hidden_prompt import HiddenPrompt
from eraser_core.joint_edit import confined, low_rank, refitted
from eraser_core.methods import METHODS
from eraser_core.methods.kpop import KPOP
from eraser_core.models import Model, open_model
from eraser_core.request import Request, Target

TEMPLATES = ("{}", "a drawing of {}")
TARGETS = (Target("a guitar", "a violin", (), TEMPLATES), Target("a dog", "a cat", (), TEMPLATES))
REQUEST = Request(TARGETS, ("a house", "a drum"), 3)
UNNAMED = ("a whale", "a drawing of a camera", "a gift")
FEW = {"iterations": 2, "batch": 1, "pool_size": 2, "sampler_steps": 2, "per_trajectory": 1}


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket")


@pytest.fixture(scope="module")
def changes(model: Model) -> dict[str, Entry]:
    """UCE's authors' edit of both: it moves words that nobody named."""
    settings = configure(METHODS["uce"], "pocket", REQUEST, {"preset": "current"})
    return dict(erase(model.denoiser, REQUEST, METHODS["uce"], settings, dtype=torch.float32).erasure.entries)


def moved(model: Model, entries: dict[str, Entry], prompt: str) -> torch.Tensor:
    """dW s of every layer, s the prompt's tokens."""
    s = model.denoiser.encode([prompt]).tokens[0].T
    return torch.cat([entry.delta() @ s for entry in entries.values()])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_the_concepts_are_moved_as_before_and_what_nobody_named_is_not(model, changes):
    found, _ = confined(model.denoiser, REQUEST, changes, (), 2.0)
    for target in TARGETS:
        assert distance(moved(model, found, target.concept), moved(model, changes, target.concept)) < 0.25
    for prompt in UNNAMED:
        assert float(moved(model, found, prompt).norm()) < 0.4 * float(moved(model, changes, prompt).norm())


def test_the_more_the_kept_weigh_the_less_they_and_the_concepts_move(model, changes):
    little, much = (confined(model.denoiser, REQUEST, changes, (), weight)[0] for weight in (0.5, 50.0))
    for prompt in (*UNNAMED, "a guitar"):
        assert float(moved(model, much, prompt).norm()) < float(moved(model, little, prompt).norm())


def test_a_hidden_prompt_is_read_as_before(model, changes):
    p = HiddenPrompt("a guitar", torch.randn(4, 192, generator=torch.Generator().manual_seed(0)), "concatenative", 16)
    found, (fitted,) = confined(model.denoiser, REQUEST, changes, [p], 2.0)
    weights = model.denoiser.weights("xattn-kv")

    def read(entries: dict[str, Entry], tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([(weights[key] + entry.delta()) @ tokens.T for key, entry in entries.items()])

    wanted = read(changes, p.tokens)
    assert distance(read(found, fitted.tokens), wanted) < 0.05 < distance(read(found, p.tokens), wanted)


def test_what_does_not_read_the_text_stays_as_it_was_trained(model, changes):
    other = next(iter(model.denoiser.weights("noxattn")))
    entry = Dense(torch.ones_like(model.denoiser.weights("noxattn")[other]))
    found, _ = confined(model.denoiser, REQUEST, {**changes, other: entry}, (), 2.0)
    assert found[other] is entry and not any(found[key] is changes[key] for key in changes)


def test_kpop_is_confined_and_one_concept_is_moved_past_its_anchor():
    kpop, alone = METHODS["kpop"], replace(REQUEST, targets=TARGETS[:1])
    for request, given, confine, overshoot in (
        (REQUEST, {}, 2.0, 0.0),
        (REQUEST, {"tune": "noxattn"}, 0.0, 0.0),
        (REQUEST, {"tune": "xattn"}, 2.0, 0.0),
        (alone, {}, 2.0, 0.5),
        (alone, {"opens": 0}, 2.0, 0.5),
        (alone, {"opens": "1"}, 0.0, 0.0),
        (alone, {"tune": "xattn"}, 0.0, 0.0),
        (alone, {"confine": 0, "overshoot": 0}, 0.0, 0.0),
    ):
        found = configure(kpop, "pocket", request, given)
        assert (found.confine, found.overshoot) == (confine, overshoot), given
    assert configure(METHODS["esd"], "pocket", REQUEST, {}).confine == 0.0


def test_a_confined_training_moves_what_nobody_named_less(tiny):
    kpop = METHODS["kpop"]
    runs = {}
    for weight in (0.0, 2.0):
        settings = configure(kpop, "pocket", REQUEST, {**FEW, "confine": weight})
        result = erase(tiny, REQUEST, kpop, settings, key_seed=0)
        s = tiny.encode(UNNAMED).tokens.flatten(0, 1).T
        runs[weight] = torch.cat([entry.delta() @ s for entry in result.erasure.entries.values()]).norm()
    assert runs[2.0] < runs[0.0]


def test_a_hidden_prompt_is_learnt_on_under_the_confined_network(model):
    """Eq. 6 alone: what the network draws with p comes nearer to what the untouched one draws without."""
    kpop, heard = METHODS["kpop"], []
    settings = configure(
        kpop, "pocket", replace(REQUEST, targets=TARGETS[:1]), {**FEW, "iterations": 80, "pool_size": 4}
    )
    learner = KPOP(model.denoiser, replace(REQUEST, targets=TARGETS[:1]), settings, key_seed=0)
    learner.begin()
    edit = FrozenEdit({key: torch.zeros_like(w) for key, w in model.denoiser.weights("xattn-kv").items()})
    before = learner.prompts()

    draw = learner.pools["erase"].draw(4)

    def missed(prompts: list[HiddenPrompt]) -> float:
        with torch.no_grad():
            p = torch.stack([one.tokens for one in prompts])
            return float(learner.opening(draw, None, p, draw.targets[1], edit)["recover"])

    after = learner.relearn(edit, before, lambda _: heard.append(1))
    assert missed(after) < 0.8 * missed(before)
    assert len(heard) == 20 and all(torch.equal(d, torch.zeros_like(d)) for d in edit.deltas.values())


def test_a_low_rank_change_keeps_its_rank(model, changes):
    found, _ = confined(model.denoiser, REQUEST, changes, (), 2.0)
    assert all(isinstance(e, LowRank) and e.rank == changes[key].rank for key, e in found.items())
    whole, _ = confined(model.denoiser, REQUEST, {key: Dense(e.delta()) for key, e in changes.items()}, (), 2.0)
    assert all(distance(found[key].delta(), whole[key].delta()) < 0.02 for key in found)


def test_a_prompt_stays_where_it_was_in_what_a_wide_matrix_does_not_read():
    g = torch.Generator().manual_seed(0)
    w, change = torch.randn(8, 32, generator=g), 0.1 * torch.randn(8, 32, generator=g)
    p = HiddenPrompt("a guitar", torch.randn(4, 32, generator=g), "concatenative", 16)
    fitted = refitted(
        {"a": w, "pooled": torch.ones(8, 5)}, {"a": Dense(change)}, {"pooled": Dense(torch.ones(8, 5))}, p
    )
    assert distance((w + change) @ fitted.tokens.T, w @ p.tokens.T) < 1e-3
    assert refitted({"pooled": torch.ones(8, 5)}, {}, {"pooled": Dense(torch.ones(8, 5))}, p) is p
    unseen = torch.linalg.qr((w + change).T, mode="complete").Q[:, 8:]  # what the matrix maps to nothing
    assert torch.allclose(fitted.tokens @ unseen, p.tokens @ unseen, atol=1e-3)


def test_a_confined_change_is_saved_in_full_precision(model, changes, tmp_path):
    """Tensors that share memory cannot be written, and rounding to half precision would have parted them."""
    dense = {key: Dense(entry.delta()) for key, entry in changes.items()}
    found, _ = confined(model.denoiser, REQUEST, dense, (), 2.0)
    names = {key.rpartition(".")[0]: key.replace(".", "_") for key in found}
    made = Erasure(found, names, "pocket", model.denoiser.base_hash, {})
    pointers = {entry.down.data_ptr() for entry in found.values() if isinstance(entry, LowRank)}
    assert len(pointers) == len(found)
    made.save(tmp_path / "e.safetensors")


def test_all_of_the_cross_attention_is_trained_and_what_reads_the_text_is_confined(tiny):
    settings = configure(METHODS["kpop"], "pocket", REQUEST, {**FEW, "iterations": 4, "tune": "xattn"})
    assert settings.confine == 2.0
    result = erase(tiny, REQUEST, METHODS["kpop"], settings, key_seed=0)
    assert len(result.prompts) == 2 and any("to_q" in key for key in result.erasure.entries)


def test_a_run_that_is_stopped_while_its_prompts_are_learnt_on_goes_on_from_there(tiny, tmp_path):
    kpop, path = METHODS["kpop"], tmp_path / "c.safetensors"
    settings, calls = configure(kpop, "pocket", REQUEST, {**FEW, "iterations": 8}), []

    def stop(step):
        calls.append(step.step)
        if len(calls) > 8:  # the first of those after the training
            raise KeyboardInterrupt

    whole = erase(tiny, REQUEST, kpop, settings, key_seed=0)
    with pytest.raises(KeyboardInterrupt):
        erase(tiny, REQUEST, kpop, settings, key_seed=0, on_step=stop, checkpoint=path)
    again = resume(tiny, METHODS, path)
    assert len(again.losses) == 8 and again.erasure.hash() == whole.erasure.hash()
    pairs = zip(again.prompts, whole.prompts, strict=True)
    assert all(torch.equal(one.tokens, other.tokens) for one, other in pairs)


def test_what_resists_learnt_contexts_cannot_be_confined():
    with pytest.raises(RequestError, match="resists no learnt context: leave confine at 0"):
        configure(METHODS["locked"], "pocket", REQUEST, {"tune": "xattn-kv", "confine": 1.0})


def test_layers_that_do_not_read_the_text_cannot_be_confined():
    with pytest.raises(RequestError, match='confine is for changes of what reads the text: it needs tune "xattn-kv"'):
        configure(METHODS["esd"], "pocket", REQUEST, {"tune": "noxattn", "confine": 1.0})


def test_layers_share_the_directions_that_most_of_them_read():
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(5, 64, generator=generator)
    layers = {name: torch.randn(out, 5, generator=generator) @ right for name, out in (("a", 300), ("b", 100))}
    entries, error = low_rank(layers, torch.eye(64, dtype=torch.float64), 0)
    assert all(isinstance(entry, LowRank) and entry.rank == 5 for entry in entries.values())
    assert error < 1e-2
    assert all(distance(entries[name].delta(), delta) < 1e-3 for name, delta in layers.items())
    assert low_rank(layers, torch.eye(64, dtype=torch.float64), 2)[1] > 0.3
    # Nothing is gained by factors of a matrix that is full: it stays as it is.
    full = {"a": torch.randn(64, 64, generator=generator)}
    assert isinstance(low_rank(full, torch.eye(64, dtype=torch.float64), 0)[0]["a"], Dense)
