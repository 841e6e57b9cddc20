"""The host's own classes for the three families: at their true sizes without memory, and narrow ones with given weights."""

from __future__ import annotations

from typing import Any

import torch

COMMON: dict[str, Any] = {"image_size": 32, "out_channels": 4, "in_channels": 4, "use_spatial_transformer": True}
COMMON |= {"legacy": False, "use_temporal_attention": False}
DEPTHS: dict[str, dict[str, Any]] = {
    "sd1": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1,
    },
    "sdxl": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
}
DEPTHS["sd2"] = DEPTHS["sd1"]
NARROW: dict[str, Any] = {"num_res_blocks": [1, 1], "channel_mult": [1, 2], "model_channels": 64}
NARROW_DEPTHS: dict[str, dict[str, Any]] = {
    "sd1": {"transformer_depth": [1, 0], "transformer_depth_output": [1, 1, 0, 0], "transformer_depth_middle": 1},
    "sdxl": {"transformer_depth": [0, 2], "transformer_depth_output": [0, 0, 2, 2], "transformer_depth_middle": 2},
}
NARROW_DEPTHS["sd2"] = NARROW_DEPTHS["sd1"]
LINEAR = {"sd1": False, "sd2": True, "sdxl": True}
CONTEXT = {"sd1": 768, "sd2": 1024, "sdxl": 2048}


def config(family: str, narrow: dict[str, Any] | None = None) -> Any:
    """The host's configuration of a family; `narrow` gives `context_dim` and for SDXL `adm_in_channels` of a small one."""
    import comfy.supported_models

    kinds = {
        "sd1": comfy.supported_models.SD15,
        "sd2": comfy.supported_models.SD20,
        "sdxl": comfy.supported_models.SDXL,
    }
    if narrow is None:
        sizes = {"model_channels": 320, **DEPTHS[family], "context_dim": CONTEXT[family]}
    else:
        sizes = {**NARROW, **NARROW_DEPTHS[family], **narrow}
    sizes = {"adm_in_channels": 2816 if family == "sdxl" else None, **sizes}
    if family == "sdxl":
        sizes["num_classes"] = "sequential"
    found = kinds[family]({**COMMON, **sizes, "use_linear_in_transformer": LINEAR[family]})
    found.set_inference_dtype(torch.float32, None)
    return found


def model_of(
    family: str, weights: dict[str, torch.Tensor], v_prediction: bool, narrow: dict[str, Any], zero_snr: bool = False
) -> Any:
    """A MODEL of a narrow configuration with these weights (LDM names without prefix)."""
    import comfy.model_base
    import comfy.model_patcher

    found, cpu = config(family, narrow), torch.device("cpu")
    kind = comfy.model_base.ModelType.V_PREDICTION if v_prediction else comfy.model_base.ModelType.EPS
    found.model_type = lambda state_dict, prefix="": kind
    found.sampling_settings = {**found.sampling_settings, "zsnr": zero_snr}  # as the host does for a file with `ztsnr`
    model = found.get_model({}, "", device=cpu)
    model.diffusion_model.load_state_dict(weights)
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


class TokensOnly:
    """The host's tokenizer without a text encoder, where contexts are given by hand."""

    def __init__(self) -> None:
        import comfy.sd1_clip

        self.tokenizer = comfy.sd1_clip.SD1Tokenizer()

    def tokenize(self, text: str, return_word_ids: bool = False, **_: Any) -> Any:
        return self.tokenizer.tokenize_with_weights(text, return_word_ids)
