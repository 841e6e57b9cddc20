"""A low-rank erasure file of ours in diffusers' own `load_lora_weights`, for the three families."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from tiny_checkpoints import FAMILIES, build, write_checkpoint

from eraser_core.backends.find import find_model
from eraser_core.backends.stored_model import Loading, read
from eraser_core.denoiser import Tune
from eraser_core.edits import LowRankEdit
from eraser_core.erasure import Dense, Erasure, not_loaded, reads_in_diffusers

pytest.importorskip("peft", reason="diffusers' LoRA loader needs it")


@pytest.mark.parametrize("tune", ["xattn-kv", "xattn", "noxattn"])
@pytest.mark.parametrize("family", FAMILIES)
def test_diffusers_applies_our_file(family: str, tune: Tune, tmp_path: Path) -> None:
    loading = Loading(size=64)
    ours = read(find_model(str(write_checkpoint(tmp_path / "m.safetensors", family)), loading), loading)
    generator = torch.Generator().manual_seed(0)
    edit = LowRankEdit(ours.weights(tune), 4, generator)
    with torch.no_grad():
        for parameter in edit.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    names = ours.file_names()
    modules = {key.rpartition(".")[0]: names[key.rpartition(".")[0]] for key in edit.entries()}
    erasure = Erasure(edit.entries(), modules, family, ours.base_hash, {})
    erasure.save(tmp_path / "erasure.safetensors")
    assert reads_in_diffusers(erasure)

    parts = {name: deepcopy(part) for name, part in build(family).items()}
    words = {"scheduler": DDIMScheduler(), "tokenizer": None, **parts}
    if family == "sdxl":
        pipe = StableDiffusionXLPipeline(**words, tokenizer_2=None)
    else:
        pipe = StableDiffusionPipeline(**words, safety_checker=None, feature_extractor=None)
    z, t = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([10, 900])
    context = ours.encode(["a church", "a dog"])
    added = {"text_embeds": context.pooled, "time_ids": context.size_ids} if family == "sdxl" else None
    plain = pipe.unet(z, t, context.tokens, added_cond_kwargs=added).sample
    pipe.load_lora_weights(str(tmp_path), weight_name="erasure.safetensors")
    with torch.no_grad():
        theirs = pipe.unet(z, t, context.tokens, added_cond_kwargs=added).sample
        wanted = ours.predict(z, t, context, erasure.as_edit())
    assert torch.allclose(theirs, wanted, atol=1e-4)
    assert not torch.allclose(theirs, plain, atol=1e-2)


def test_diffusers_does_not_apply_a_dense_file(tmp_path: Path) -> None:
    """As the file itself says; the day this fails, take the words out."""
    loading = Loading(size=64)
    ours = read(find_model(str(write_checkpoint(tmp_path / "m.safetensors", "sd1")), loading), loading)
    entries = {key: Dense(torch.full(weight.shape, 0.1)) for key, weight in ours.weights("xattn-kv").items()}
    modules = {key.rpartition(".")[0]: ours.file_names()[key.rpartition(".")[0]] for key in entries}
    erasure = Erasure(entries, modules, "sd1", ours.base_hash, {})
    erasure.save(tmp_path / "erasure.safetensors")
    assert not reads_in_diffusers(erasure) and "load_lora_weights does not" in not_loaded(erasure)
    parts = {name: deepcopy(part) for name, part in build("sd1").items()}
    words = {"scheduler": DDIMScheduler(), "tokenizer": None, "safety_checker": None, "feature_extractor": None}
    pipe = StableDiffusionPipeline(**parts, **words)
    with pytest.raises(ValueError, match="lora"):
        pipe.load_lora_weights(str(tmp_path), weight_name="erasure.safetensors")
