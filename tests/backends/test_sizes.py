"""How large erasure files are on Stable Diffusion 1.5's true K and V shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from true_configs import CONFIGS

from eraser_core.backends.diffusers import DiffusersDenoiser
from eraser_core.denoiser import Context, NoiseSchedule
from eraser_core.edits import make_edit
from eraser_core.erasing import erase
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target


class FixedText:
    tokens_per_chunk = 77

    def encode(self, prompts):
        seeds = [torch.Generator().manual_seed(sum(p.encode())) for p in prompts]
        return Context(torch.stack([torch.randn(77, 768, generator=g) for g in seeds]))

    def encode_start(self, prompts, n):
        return self.encode(prompts).tokens[:, :n]

    def token_count(self, prompt):
        return 1 + len(prompt.split())

    def release(self):
        pass


@pytest.fixture(scope="module")
def sd15() -> DiffusersDenoiser:
    """Only K and V have numbers; nothing is predicted here."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**CONFIGS["sd15"], sample_size=64)
    generator = torch.Generator().manual_seed(0)
    for name, module in unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            weight = torch.randn(module.weight.shape, generator=generator) * 0.04
            module.weight = nn.Parameter(weight, requires_grad=False)
    return DiffusersDenoiser("sd1", unet, FixedText(), None, NoiseSchedule.scaled_linear(), base_hash="0" * 64)


def test_a_closed_form_of_one_token_is_under_200_kb(sd15: DiffusersDenoiser, tmp_path: Path) -> None:
    request = Request((Target("church", "castle"),), ("dog", "car"))
    values: dict[str, dict[str, Any]] = {"uce": {"preset": "current"}, "dp": {"directions": 1}}
    for name in values:
        method = METHODS[name]
        result = erase(sd15, request, method, method.configure("sd1", values[name]))
        result.erasure.save(tmp_path / f"{name}.safetensors")
        assert (tmp_path / f"{name}.safetensors").stat().st_size < 200_000
        assert len(load_erasure(tmp_path / f"{name}.safetensors").entries) == 32


def test_moments_read_all_of_a_prompt_and_take_a_larger_file(sd15: DiffusersDenoiser, tmp_path: Path) -> None:
    request = Request((Target("church", "castle"),), ("dog", "car"))
    erase(sd15, request, METHODS["uce"], METHODS["uce"].configure("sd1", {})).erasure.save(tmp_path / "u.safetensors")
    assert 200_000 < (tmp_path / "u.safetensors").stat().st_size < 8_000_000


def test_four_directions_are_four_times_that(sd15: DiffusersDenoiser, tmp_path: Path) -> None:
    request = Request((Target("church", "castle"),), ("dog", "car"))
    erase(sd15, request, METHODS["dp"], METHODS["dp"].configure("sd1", {})).erasure.save(tmp_path / "dp.safetensors")
    assert 200_000 < (tmp_path / "dp.safetensors").stat().st_size < 450_000


def test_a_trained_one_is_under_2_mb_at_the_default_rank_and_not_at_twice_that(
    sd15: DiffusersDenoiser, tmp_path: Path
) -> None:
    rank = METHODS["kpop"].configure("sd1", {}, False).rank
    sizes = []
    for r in (rank, 2 * rank):
        entries = make_edit(sd15, "xattn-kv", r, torch.Generator().manual_seed(0)).entries()
        names = sd15.file_names()
        modules = {k.rpartition(".")[0]: names[k.rpartition(".")[0]] for k in entries}
        Erasure(entries, modules, "sd1", sd15.base_hash, {}).to(torch.float16).save(tmp_path / "e.safetensors")
        sizes.append((tmp_path / "e.safetensors").stat().st_size)
    assert sizes[0] < 2_000_000 < sizes[1]


def test_the_presets_rate_is_for_low_rank_alone() -> None:
    for name in ("kpop", "esd"):
        low, dense = (METHODS[name].configure("sd1", values, False) for values in ({}, {"rank": "0"}))
        assert (low.rank, low.eta) == (16, 1e-4) and (dense.rank, dense.eta) == (0, METHODS[name].settings().eta)
