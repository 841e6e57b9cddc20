"""Names checked against real diffusers UNets (on the meta device: no memory) and against names that LoRA files are known to hold."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from true_configs import CONFIGS

from eraser_core.backends.ldm_keys import diffusers_to_ldm, ldm_to_diffusers


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_has_one_name(name: str) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(**CONFIGS[name])
    for config in (CONFIGS[name], dict(unet.config)):
        names = diffusers_to_ldm(config)
        assert set(names) == set(unet.state_dict())
        assert len(set(names.values())) == len(names)
        assert ldm_to_diffusers(config) == {ldm: own for own, ldm in names.items()}


def test_names_that_files_are_known_to_hold() -> None:
    sd15 = diffusers_to_ldm(CONFIGS["sd15"])
    attention = "attentions.0.transformer_blocks.0.attn2.to_k.weight"
    assert sd15[f"down_blocks.0.{attention}"] == "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    assert sd15[f"mid_block.{attention}"] == "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    assert sd15[f"up_blocks.1.{attention}"] == "output_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    assert sd15["up_blocks.0.upsamplers.0.conv.weight"] == "output_blocks.2.1.conv.weight"
    assert sd15["up_blocks.1.upsamplers.0.conv.weight"] == "output_blocks.5.2.conv.weight"
    assert sd15["down_blocks.2.downsamplers.0.conv.bias"] == "input_blocks.9.0.op.bias"
    assert sd15["down_blocks.1.resnets.0.conv_shortcut.weight"] == "input_blocks.4.0.skip_connection.weight"
    sdxl = diffusers_to_ldm(CONFIGS["sdxl"])
    deep = "attentions.1.transformer_blocks.9.attn2.to_v.weight"
    assert sdxl[f"down_blocks.2.{deep}"] == "input_blocks.8.1.transformer_blocks.9.attn2.to_v.weight"
    assert sdxl["add_embedding.linear_2.weight"] == "label_emb.0.2.weight"


def test_other_architectures_are_refused() -> None:
    with pytest.raises(ValueError, match="has no LDM names"):
        diffusers_to_ldm({"down_block_types": ("AttnDownBlock2D",)})
