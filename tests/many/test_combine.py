"""Combined files: what each did to its concept, nothing to the rest; and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eraser_core.__main__ import main
from eraser_core.denoiser import Context
from eraser_core.erasing import configure, erase
from eraser_core.erasure import Dense, Erasure, LowRank, load_erasure, stack
from eraser_core.errors import FileFormatError, RequestError
from eraser_core.general_words import general_prompts, general_prompts_with, general_words
from eraser_core.hidden_prompt import HiddenPrompt, load_prompts, save_prompts
from eraser_core.many import sums
from eraser_core.many.combine import CombineSettings, Source, combine, configured, joint_request, source
from eraser_core.many.files import load_sources
from eraser_core.many.harm import harm
from eraser_core.memory_tracker import Tracker
from eraser_core.methods import METHODS
from eraser_core.models import Model, open_model
from eraser_core.request import Request, Target
from eraser_core.text_moments import concept_moments, general_moment, joint_map, moment

TEMPLATES = ("{}", "a drawing of {}")
NAMES = {"guitar": "a violin", "dog": "a cat", "soccer ball": "a basketball", "truck": "a bus"}
KEPT = ("a house", "a drum", "an owl", "a bicycle")


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("pocket")


@pytest.fixture(scope="module")
def sources(model: Model) -> list[Source]:
    return [source(name, solved(model, name, anchor)) for name, anchor in NAMES.items()]


def solved(model: Model, name: str, anchor: str, **values: object) -> Erasure:
    request = Request((Target(f"a {name}", anchor, (), TEMPLATES),), KEPT)
    settings = configure(METHODS["uce"], "pocket", request, {"preset": "current", **values})
    return erase(model.denoiser, request, METHODS["uce"], settings).erasure


def read(model: Model, prompt: str, erasures: list[Erasure]) -> torch.Tensor:
    """What the layers read of a prompt under these erasures, all layers in a row."""
    states = model.denoiser.encode([prompt]).tokens[0].T
    edit = stack(erasures, [1.0] * len(erasures))
    weights = model.denoiser.weights("xattn-kv")
    return torch.cat([edit.weight(k, w) @ states if k in edit.deltas else w @ states for k, w in weights.items()])


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_each_concept_reads_as_under_its_own_file_and_the_rest_as_before(model, sources):
    found = combine(model.denoiser, sources, CombineSettings())
    for one in sources:
        concept = one.request.targets[0].concept
        alone = read(model, concept, [one.erasure])
        untouched = distance(read(model, concept, []), alone)
        assert distance(read(model, concept, [found.erasure]), alone) < 0.5 * untouched
    every = [one.erasure for one in sources]
    for word in (*KEPT, "a whale"):  # the last was named to nobody
        before = read(model, word, [])
        joint, stacked = (distance(read(model, word, files), before) for files in ([found.erasure], every))
        assert joint < stacked / 2
    assert found.error < 0.02 and found.seconds < 10


def test_without_the_general_vocabulary_unnamed_words_move_further(model, sources):
    with_words, without = (
        combine(model.denoiser, sources, CombineSettings(general=general)).erasure for general in (True, False)
    )
    unnamed = ("a whale", "a camera", "a gift")
    moved = [max(one for _, one in harm(model.denoiser, [e], unnamed).movements) for e in (with_words, without)]
    assert moved[0] < moved[1]


def test_a_hidden_prompt_is_read_as_under_its_own_file(model, sources):
    p = HiddenPrompt("a guitar", torch.randn(4, 192, generator=torch.Generator().manual_seed(0)), "concatenative", 16)
    found = combine(model.denoiser, sources, CombineSettings(), [[p], [], [], []])

    def keys(tokens: torch.Tensor, erasure: Erasure) -> torch.Tensor:
        edit = erasure.as_edit()
        return torch.cat([edit.weight(k, w) @ tokens.T for k, w in model.denoiser.weights("xattn-kv").items()])

    wanted = keys(p.tokens, sources[0].erasure)
    fitted, as_it_was = (distance(keys(t, found.erasure), wanted) for t in (found.prompts[0].tokens, p.tokens))
    assert fitted < 0.05 and fitted < as_it_was / 2


def test_the_file_says_what_is_in_it(model, sources, tmp_path):
    found = combine(model.denoiser, sources, CombineSettings())
    found.erasure.save(tmp_path / "c.safetensors")
    loaded = load_erasure(tmp_path / "c.safetensors")
    assert json.loads(loaded.fact("targets")) == [f"a {name}" for name in NAMES]
    assert [one["hash"] for one in json.loads(loaded.fact("combined_from"))] == [s.erasure.hash() for s in sources]
    again = combine(
        model.denoiser, [source("c", loaded), source("x", solved(model, "church", "a castle"))], CombineSettings()
    )
    assert len(again.request.targets) == 5


def test_a_lower_rank_is_smaller_and_says_what_it_leaves_out(model, sources):
    whole, cut = (combine(model.denoiser, sources, CombineSettings(rank=rank)) for rank in (0, 2))
    assert cut.error > 10 * whole.error
    assert all(entry.rank == 2 for entry in cut.erasure.entries.values())


@pytest.mark.parametrize("together", [1, 5, 1000])
def test_factors_multiplied_together_give_the_sum_of_each(together, monkeypatch):
    monkeypatch.setattr(sums, "TOGETHER", together)
    g = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g)

    weights = {"a": random(6, 4), "b": random(3, 4)}
    shared = random(2, 4)
    files = [
        ({"a": LowRank(random(6, 3), random(3, 4), 6.0), "b": LowRank(random(3, 1), random(1, 4), 1.0)}, random(5, 4)),
        ({"a": LowRank(random(6, 2), shared, 2.0), "b": LowRank(random(3, 2), shared.clone(), 2.0)}, random(7, 4)),
        ({"b": Dense(random(3, 4))}, random(2, 4)),
    ]
    total = sums.Sums(weights, torch.device("cpu"))
    for entries, s in files:
        total.add(entries, s)
    found = total.whole()
    for key in weights:
        expected = sum(entries[key].delta() @ s.T @ s for entries, s in files if key in entries)
        assert torch.allclose(found[key], expected, atol=1e-4)
        assert not torch.allclose(found[key], expected + 0.01, atol=1e-4)


def test_moments_do_not_depend_on_batches(model, monkeypatch):
    prompts = ["", *general_words("pocket")[:40]]
    whole = moment(model.denoiser, prompts)
    monkeypatch.setattr("eraser_core.text_moments.BATCH", 7)
    assert torch.allclose(moment(model.denoiser, prompts), whole, rtol=1e-5)


def test_the_general_vocabulary_is_read_once_and_leaves_the_concepts_out(model, monkeypatch):
    prompts = general_prompts("pocket")
    others = [prompt for prompt in prompts if "guitar" not in prompt]
    assert len(others) == len(prompts) - 1
    read = []
    encode = type(model.denoiser).encode
    monkeypatch.setattr(
        type(model.denoiser), "encode", lambda self, prompts: read.extend(prompts) or encode(self, prompts)
    )
    first = general_moment(model.denoiser, ["a guitar"])
    read.clear()
    again = general_moment(model.denoiser, ["a guitar"])
    assert len(read) < 10 and torch.equal(first, again)
    assert distance(first, moment(model.denoiser, others)) < 1e-5 < distance(first, moment(model.denoiser, prompts))


def test_the_general_words_stand_in_prompts_one_each():
    words, prompts = general_words("pocket"), general_prompts("pocket")
    assert len(prompts) == len(words) and all(
        re.search(rf"\b{word}\b", prompt) for word, prompt in zip(words, prompts, strict=True)
    )
    assert sum("style" in prompt for prompt in prompts) > 300
    assert len({*general_prompts("sd1")}) == 1000
    assert sum(prompt.startswith("a photo of ") for prompt in general_prompts("sd1")) == 250


def test_a_style_that_is_erased_is_in_no_general_prompt_that_is_kept(model):
    ink = general_prompts_with("pocket", ["ink"])
    assert len(ink) > 40 and all("ink" in prompt.split() or "ink," in prompt for prompt in ink)
    others = [prompt for prompt in general_prompts("pocket") if prompt not in ink]
    found = general_moment(model.denoiser, ["ink"])
    assert distance(found, moment(model.denoiser, others)) < 1e-5
    # Templates are no concept's own: nothing else is lost of a real model's where a picture of something is erased.
    assert len(general_prompts_with("sd1", ["a picture of a painting"])) <= 2
    assert len(general_prompts_with("pocket", ["ink style"])) == len(ink)  # every style's name ends in that word


def test_a_joint_map_sends_a_concept_to_its_anchor_and_leaves_others(model):
    request = Request(tuple(Target(f"a {n}", a, (), TEMPLATES) for n, a in NAMES.items()), KEPT)
    e = joint_map(model.denoiser, request, 9.0, 1e-4, 0.0, general=True).e
    identity = torch.eye(len(e), dtype=e.dtype)

    def states(prompt: str) -> torch.Tensor:
        return model.denoiser.encode([prompt]).tokens[0].double()

    for name, anchor in NAMES.items():
        if " " in name:
            continue  # of two words: its tokens stand a place later than the anchor's
        moved = states(f"a {name}") @ (identity + e).T
        assert distance(moved, states(anchor)) < 0.5 * distance(states(f"a {name}"), states(anchor))
    for word in KEPT:
        assert distance(states(word) @ (identity + e).T, states(word)) < 0.05


def test_the_factors_leave_out_what_moves_no_text(model):
    """What is cut off is little of how far the texts are moved, though it is more of the matrix E."""
    request = Request(tuple(Target(f"a {n}", a, (), TEMPLATES) for n, a in NAMES.items()), KEPT)
    found = joint_map(model.denoiser, request, 9.0, 1e-4, 0.0, general=True)

    def missed(left: torch.Tensor, right: torch.Tensor) -> float:
        root = torch.linalg.cholesky(found.moment)
        return float(((left @ right.T - found.e) @ root).square().sum() / (found.e @ root).square().sum())

    left, right = found.factors()
    assert missed(left, right) <= 1.001e-4
    assert missed(left[:, :-1], right[:, :-1]) > 1e-4  # no column too many
    u, s, vh = torch.linalg.svd(found.e)
    plain = int(((s**2).cumsum(0) / (s**2).sum() < 1 - 1e-4).sum()) + 1
    assert left.shape[1] < 0.8 * plain
    r = left.shape[1]
    assert missed(u[:, :r] * s[:r], vh[:r].T) > 1.2e-4  # E's own largest directions are not those


class Wide:
    """Texts of four tokens with states of 1024 numbers."""

    family = "sd1"

    def encode(self, prompts):
        seeds = [torch.Generator().manual_seed(sum(prompt.encode())) for prompt in prompts]
        return Context(torch.stack([torch.randn(4, 1024, generator=g) for g in seeds]))

    def as_read(self, tokens):
        return tokens

    def token_count(self, prompt):
        return 1 + len(prompt.split())


def test_a_closed_form_holds_a_dozen_matrices_at_most(model):
    """Each [d, d] of 8 bytes: what has to be free for a wide text encoder."""
    request = Request((Target("guitar", "lamp", (), ("{}",)), Target("dog", "cat", (), ("{}",))), ("tree",))
    with Tracker() as tracker:
        joint_map(Wide(), request, 9.0, 1e-4, 0.0, general=True).factors()
    assert 6 < tracker.peak / (8 * 1024**2) < 12, tracker.peak / (8 * 1024**2)


def test_a_concept_counts_once_however_many_templates(model):
    few, many = (Target("a guitar", "a violin", (), TEMPLATES * n) for n in (1, 5))
    a, b = (concept_moments(model.denoiser, t) for t in (few, many))
    assert torch.allclose(a.c, b.c) and torch.allclose(a.towards, b.towards)


def test_harm_names_the_words_that_are_moved_most(model, sources):
    found = harm(model.denoiser, [s.erasure for s in sources], ["a guitar", "a house"])
    assert found.movements[0][0] == "a guitar"
    assert harm(model.denoiser, [], ["a house"]).movements == (("a house", 0.0),)
    assert not harm(model.denoiser, [], ["a house"]).text()


def requests(*pairs: tuple[str, str], retain: tuple[str, ...] = ()) -> Request:
    return Request(tuple(Target(concept, anchor) for concept, anchor in pairs), retain)


def made(model: Model, name: str, request: Request) -> Source:
    return Source(name, Erasure({}, {}, "pocket", model.denoiser.base_hash), request, name)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (requests(("a dog", "a cat")), requests(("a dog", "an owl")), "A and B both erase 'a dog'"),
        (
            requests(("a dog", "a cat")),
            requests(("a cat", "an owl")),
            "A draws 'a cat' in the place of 'a dog', and B erases",
        ),
    ],
)
def test_files_that_contradict_each_other_are_refused(model, first, second, message):
    with pytest.raises(RequestError, match=message):
        joint_request([made(model, "A", first), made(model, "B", second)])


def test_a_word_that_one_keeps_and_one_erases_is_erased_and_named(model):
    a = made(model, "A", requests(("a dog", "a cat"), retain=("an owl", "a house")))
    request, notes = joint_request([a, made(model, "B", requests(("an owl", "a fox")))])
    assert request.retain == ("a house",)
    assert notes == ("A retains 'an owl', which B erases: it is erased",)


def test_what_cannot_be_combined_is_refused(model, sources):
    d = model.denoiser
    with pytest.raises(RequestError, match="two erasures at least"):
        combine(d, sources[:1], CombineSettings())
    foreign = replace(sources[0], erasure=replace(sources[0].erasure, base_hash="0" * 64))
    with pytest.raises(RequestError, match="guitar was made on another model"):
        combine(d, [foreign, sources[1]], CombineSettings())
    key = next(k for k in d.weights("noxattn") if k.endswith(".weight") and d.weights("noxattn")[k].dim() == 2)
    weight = d.weights("noxattn")[key]
    entry = type(next(iter(sources[0].erasure.entries.values())))(
        torch.zeros(weight.shape[0], 1), torch.zeros(1, weight.shape[1])
    )
    other = replace(sources[0], erasure=replace(sources[0].erasure, entries={key: entry}))
    with pytest.raises(RequestError, match="do not read the text"):
        combine(d, [other, sources[1]], CombineSettings())
    with pytest.raises(RequestError, match="does not say which concept"):
        source("plain", replace(sources[0].erasure, facts={}))
    for values, word in (((-1.0, None), "kept"), ((float("nan"), None), "kept"), ((None, -2), "rank")):
        with pytest.raises(RequestError, match=word):
            configured(*values)


def test_the_command_writes_one_file_and_the_keys_apart(model, sources, tmp_path, caplog):
    paths = []
    for one in sources[:2]:
        paths.append(tmp_path / "in" / f"{one.name}.safetensors")
        one.erasure.save(paths[-1])
    p = HiddenPrompt("a guitar", torch.randn(4, 192), "concatenative", 16)
    key = tmp_path / "in" / "key.safetensors"
    save_prompts(key, [p], 1, sources[0].erasure.hash(), {})
    out = tmp_path / "out"
    with caplog.at_level("INFO"):
        assert main(["combine", str(tmp_path / "in"), "--hidden-prompt", str(key), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["combined.json", "combined.safetensors", "private"]
    prompts, facts = load_prompts(out / "private" / "combined_hidden_prompts.safetensors")
    assert [one.concept for one in prompts] == ["a guitar"]
    assert facts["hidden_prompt.erasure_hash"] == load_erasure(out / "combined.safetensors").hash()
    assert main(["combine", *map(str, paths), "--out", str(out)]) == 2  # in use


def test_wrong_calls_write_nothing(model, sources, tmp_path, capsys):
    one = tmp_path / "one.safetensors"
    sources[0].erasure.save(one)
    (tmp_path / "empty").mkdir()
    foreign = tmp_path / "key.safetensors"
    save_prompts(foreign, [HiddenPrompt("x", torch.randn(4, 192), "concatenative", 16)], 1, "0" * 64, {})
    for words, message in (
        ([one], "two erasures at least"),
        ([one, one], "the same erasure"),
        ([tmp_path / "empty"], "holds no erasure"),
        ([one, tmp_path / "none.safetensors"], "there is no file"),
        ([one, one.with_name("key.safetensors")], ""),
    ):
        assert main(["combine", *map(str, words), "--out", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    with pytest.raises(FileFormatError, match="belongs to none"):
        from eraser_core.many.files import prompts_of

        prompts_of(load_sources([one]), [foreign])


def test_paths_in_a_folder_come_in_order(sources, tmp_path: Path):
    for one in sources:
        one.erasure.save(tmp_path / f"{one.name}.safetensors")
    assert [Path(s.name).stem for s in load_sources([tmp_path])] == sorted(NAMES)
