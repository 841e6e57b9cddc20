"""An erasure of a transformer in diffusers' own `load_lora_weights`: which families it takes, and which it leaves out."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from tiny_transformers import FAMILIES, MODELS, transformer_folder

from eraser_core.erasure import Erasure, LowRank, not_loaded
from eraser_core.models import open_reader

pytest.importorskip("peft", reason="diffusers' LoRA loader needs it")
# What diffusers calls the matrix by which text enters.
TAKEN = {"flux2": "context_embedder", "qwen-image": "txt_in", "z-image": "cap_embedder.1"}


def _erasure(path: Path, family: str) -> Erasure:
    model = open_reader(str(transformer_folder(path, family)))
    generator = torch.Generator().manual_seed(0)
    entries = {
        key: LowRank(torch.randn(len(w), 4, generator=generator), torch.randn(4, w.shape[1], generator=generator))
        for key, w in model.weights("xattn-kv").items()
    }
    return Erasure(
        entries, {key.rpartition(".")[0]: model.file_names()[key.rpartition(".")[0]] for key in entries}, family, "", {}
    )


def _loaded(tmp_path: Path, family: str) -> tuple[Any, Any, Erasure]:
    """(diffusers' transformer before, after it was given the file, the erasure)."""
    erasure = _erasure(tmp_path / "model", family)
    erasure.save(tmp_path / "erasure.safetensors")
    pipeline, name, _ = MODELS[family]
    before, after = (getattr(diffusers, name).from_pretrained(tmp_path / "model" / "transformer") for _ in range(2))
    kind = getattr(diffusers, pipeline)
    state = kind.lora_state_dict(str(tmp_path), weight_name="erasure.safetensors")
    old = {"network_alphas": None} if "network_alphas" in signature(kind.load_lora_into_transformer).parameters else {}
    kind.load_lora_into_transformer(state, transformer=after, **old)
    return before, after, erasure


@pytest.mark.parametrize("family", TAKEN)
def test_diffusers_applies_our_file(family: str, tmp_path: Path) -> None:
    before, after, erasure = _loaded(tmp_path, family)
    assert "diffusers loads it" in not_loaded(erasure)
    (entry,) = erasure.entries.values()
    door = before.get_submodule(TAKEN[family])
    x = torch.randn(3, door.in_features)
    with torch.no_grad():
        changed = after.get_submodule(TAKEN[family])(x)
        assert torch.allclose(changed, door(x) + x @ entry.delta().T, atol=1e-2)
        assert not torch.allclose(changed, door(x), atol=1.0)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in TAKEN])
def test_diffusers_leaves_the_file_out_for_the_others(family: str, tmp_path: Path) -> None:
    """As the file itself says; the day this fails for one, move it up."""
    try:
        before, after, erasure = _loaded(tmp_path, family)
    except (
        AttributeError,
        IndexError,
        KeyError,
        ValueError,
    ):  # its pipeline has no loader, or the loader knows no such names
        return
    assert "diffusers does not" in not_loaded(erasure)
    own, same = dict(before.named_parameters()), dict(after.named_parameters())
    assert all("lora" not in name for name in same) and all(torch.equal(own[name], same[name]) for name in own)
