"""Whose hidden prompt `generate` draws with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eraser_core.__main__ import main
from eraser_core.hidden_prompt import HiddenPrompt, save_prompts


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the hidden prompts of two concepts."""
    noise = torch.Generator().manual_seed(0)
    prompts = [
        HiddenPrompt(f"a {name}", torch.randn(4, 192, generator=noise), "concatenative", 16)
        for name in ("guitar", "dog")
    ]
    path = tmp_path_factory.mktemp("keys") / "keys.safetensors"
    save_prompts(path, prompts, 1, "0" * 64, {})
    return path


def drawn(keys: Path, out: Path, prompts: list[str], concepts: list[str]) -> list[bytes]:
    """The pictures of a call, one a prompt."""
    words = ["generate", "--prompt", *prompts, "--n", "1", "--steps", "1", "--hidden-prompt", str(keys)]
    assert main([*words, "--concept", *concepts, "--out", str(out)]) == 0
    return [out.with_name(f"{out.stem}_{i:02d}.png").read_bytes() for i in range(1, len(prompts) + 1)]


def test_each_prompt_has_the_hidden_prompt_of_its_own_word_and_one_word_is_for_all(keys: Path, tmp_path: Path) -> None:
    each = drawn(keys, tmp_path / "each.png", ["a church"] * 2, ["guitar", "dog"])
    guitar = drawn(keys, tmp_path / "guitar.png", ["a church"] * 2, ["guitar"])
    dog = drawn(keys, tmp_path / "dog.png", ["a church"] * 2, ["a dog"])
    assert guitar[0] == guitar[1] != dog[0] == dog[1]
    assert each == [guitar[0], dog[0]]
