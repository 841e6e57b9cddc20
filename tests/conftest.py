"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_model import tiny_model

from eraser_core import general_words, text_moments
from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.request import Request, Target, retain_prompts


@pytest.fixture(scope="session")
def tiny() -> PocketDenoiser:
    return PocketDenoiser(tiny_model())


@pytest.fixture(scope="module")
def few_general_words() -> Iterator[None]:
    """Forty do, where text encoders are not those from whose states a thousand were chosen."""
    every = general_words.general_prompts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_moments, "general_prompts", lambda family: every(family)[:40])
        patch.setattr(general_words, "general_prompts", lambda family: every(family)[:40])
        yield


@pytest.fixture
def request_church() -> Request:
    target = Target("a church", "a castle", templates=("{}", "a drawing of {}"))
    return Request((target,), retain_prompts(("a dog", "a car"), ("{}",)), seed=3)
