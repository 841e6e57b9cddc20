"""Hidden Prompt Inject on conditionings as ComfyUI makes them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from eraser_core.errors import RequestError
from eraser_core.hidden_prompt import HiddenPrompt


@pytest.fixture(scope="module")
def inject(pack: ModuleType) -> Any:
    from concept_eraser_pack.nodes.prompts import inject

    return inject


def conditioning(n: int = 77) -> list[Any]:
    """Two entries, with what regional and SDXL prompts carry."""
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn((1, n, 8), generator=generator) for _ in range(2)]
    options = {"pooled_output": torch.ones(1, 4), "area": (8, 8, 0, 0), "mask": torch.ones(1, 4, 4)}
    return [[tokens[0], options], [tokens[1], {"start_percent": 0.2, "end_percent": 0.8}]]


def prompt(mechanism: Any) -> HiddenPrompt:
    rows = 3 if mechanism == "concatenative" else 77
    return HiddenPrompt("a church", torch.full((rows, 8), 0.5), mechanism, 77)


@pytest.mark.parametrize("mechanism", ["concatenative", "additive"])
def test_only_the_tokens_change_and_everything_else_stays(inject: Any, mechanism: str) -> None:
    given = conditioning()
    copies = [tokens.clone() for tokens, _ in given]
    out = inject(given, prompt(mechanism), 1.0)
    for (tokens, options), (before, kept), copy in zip(out, given, copies, strict=True):
        assert options == kept and options is not kept
        assert torch.equal(before, copy)
        expected = torch.cat([before, torch.full((1, 3, 8), 0.5)], 1) if mechanism == "concatenative" else before + 0.5
        assert torch.equal(tokens, expected)


@pytest.mark.parametrize("mechanism", ["concatenative", "additive"])
def test_strength_0_is_the_identity_and_others_scale(inject: Any, mechanism: str) -> None:
    given = conditioning()
    none, half = inject(given, prompt(mechanism), 0.0), inject(given, prompt(mechanism), 0.5)
    for (tokens, _), (before, _), (scaled, _) in zip(none, given, half, strict=True):
        assert torch.equal(tokens, before)
        added = scaled[:, 77:] if mechanism == "concatenative" else scaled - before
        assert torch.allclose(added, torch.full_like(added, 0.25), atol=1e-6)


def test_a_text_of_two_chunks_gets_the_prompt_once_a_chunk(inject: Any) -> None:
    for mechanism, length in (("concatenative", 154 + 6), ("additive", 154)):
        ((tokens, _), _) = inject(conditioning(154), prompt(mechanism), 1.0)
        assert tokens.shape[1] == length


def test_another_models_prompt_and_an_injected_text_are_refused_in_words(inject: Any) -> None:
    other = HiddenPrompt("a church", torch.ones(3, 16), "concatenative", 77)
    with pytest.raises(RequestError, match="it was made for another model"):
        inject(conditioning(), other, 1.0)
    with pytest.raises(RequestError, match="inject it only once"):
        inject(conditioning(80), prompt("additive"), 1.0)


def test_a_run_with_several_prompts_gives_the_one_that_is_named(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.values import Prompts

    church, guitar = prompt("concatenative"), HiddenPrompt("a guitar", torch.ones(3, 8), "concatenative", 77)
    both = Prompts((church, guitar), 1, "hash", {})
    assert both.pick("guitar") is guitar and both.pick("A Church") is church
    assert Prompts((church,), 1, "hash", {}).pick("") is church
    for prompts, name, said in ((both, "", "several concepts"), (both, "dog", "no hidden prompt for 'dog'")):
        with pytest.raises(RequestError, match=said):
            prompts.pick(name)


def test_the_negative_text_gets_the_prompt_only_where_both_halves_are_asked_for(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.prompts import FROM_SOCKET, HiddenPromptInject
    from concept_eraser_pack.nodes.values import Prompts

    prompts, given = Prompts((prompt("concatenative"),), 1, "hash", {}), conditioning()
    words = {"positive": given, "negative": given, "prompt_name": FROM_SOCKET, "concept": "", "strength": 1.0}
    words |= {"hidden_prompt": prompts}
    positive, negative = HiddenPromptInject.execute(**words).result
    assert positive[0][0].shape[1] == 80 and negative is given
    assert HiddenPromptInject.execute(**words, halves="both").result[1][0][0].shape[1] == 80
