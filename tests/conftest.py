"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest
from tiny_model import tiny_model

from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.request import Request, Target, retain_prompts


@pytest.fixture(scope="session")
def tiny() -> PocketDenoiser:
    return PocketDenoiser(tiny_model())


@pytest.fixture
def request_church() -> Request:
    target = Target("a church", "a castle", templates=("{}", "a drawing of {}"))
    return Request((target,), retain_prompts(("a dog", "a car"), ("{}",)), seed=3)
