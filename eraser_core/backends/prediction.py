"""What a checkpoint's network predicts, and along which noise schedule: files often do not say, so users may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..denoiser import NoiseSchedule, Prediction
from ..errors import ModelError
from .tensor_files import TensorFiles

V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"  # empty tensors that ComfyUI reads and writes
OTHER_MARKS = ("edm_mean", "edm_vpred.sigma_max")
SD2_TELLTALE = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
SD2_V_SPREAD = 0.09  # ComfyUI's threshold (comfy/supported_models.py): SD2.1's 768 px v-model is above, its base below


@dataclass(frozen=True)
class Said:
    """A prediction, whether the schedule has zero terminal SNR, and where each was taken from, in words."""

    prediction: Prediction
    zero_snr: bool
    source: str
    zero_snr_source: str

    def schedule(self) -> NoiseSchedule:
        """Stable Diffusion's schedule; ModelError for zero terminal SNR without v-prediction, where z_0 is undefined."""
        if self.zero_snr and self.prediction != "v_prediction":
            raise ModelError(
                "zero terminal SNR needs v-prediction (pure noise says nothing about the picture otherwise): give "
                "--prediction v as well, or leave --zero-snr off"
            )
        schedule = NoiseSchedule.scaled_linear(prediction=self.prediction)
        return NoiseSchedule(zero_terminal_snr(schedule.alphas_cumprod), self.prediction) if self.zero_snr else schedule


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """[T] float64 shifted and scaled so that the last timestep is pure noise (Lin et al., arXiv 2305.08891, alg. 1)."""
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def said_by_file(files: TensorFiles, family: str, prediction: Prediction | None, zero_snr: bool | None) -> Said:
    """The user's switches first, then what the file says of itself (marker tensors, ModelSpec), then what is usual."""
    other = [mark for mark in OTHER_MARKS if mark in files]
    if other and prediction is None:
        raise ModelError(
            f"{files.place} says that it is an EDM model ({other[0]}), which is not supported; if you know better, give "
            "--prediction"
        )
    found, source = _prediction(files, family)
    if prediction is not None:
        found, source = prediction, "--prediction"
    marked = ZERO_SNR_MARK in files
    if zero_snr is not None:
        return Said(found, zero_snr, source, "--zero-snr")
    return Said(found, marked, source, f"the file's {ZERO_SNR_MARK} key" if marked else "usual; the file says nothing")


def _prediction(files: TensorFiles, family: str) -> tuple[Prediction, str]:
    if V_MARK in files:
        return "v_prediction", f"the file's {V_MARK} key"
    said = files.metadata.get("modelspec.prediction_type", "")
    if said in ("v", "v_prediction", "epsilon"):
        return ("epsilon" if said == "epsilon" else "v_prediction"), "the file's modelspec.prediction_type"
    if family == "sd2" and SD2_TELLTALE in files:
        spread = float(torch.std(files.tensor(SD2_TELLTALE).float(), unbiased=False))
        v = spread > SD2_V_SPREAD
        return ("v_prediction" if v else "epsilon"), "guessed from its weights, as ComfyUI does"
    return "epsilon", "usual; the file says nothing"


def said_by_scheduler(
    config: Mapping[str, Any], prediction: Prediction | None, zero_snr: bool | None, place: str
) -> Said:
    """The same of a folder's scheduler_config.json; ModelError for schedules other than Stable Diffusion's."""
    found = config.get("prediction_type", "epsilon")
    if prediction is None and found not in ("epsilon", "v_prediction"):
        raise ModelError(f"{place} predicts {found!r}: epsilon and v_prediction are supported")
    usual = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
    odd = {k: config[k] for k, v in usual.items() if config.get(k, v) != v}
    if odd:
        raise ModelError(f"{place} has another noise schedule than Stable Diffusion's ({odd}), which is not supported")
    marked = bool(config.get("rescale_betas_zero_snr", False))
    file = "scheduler_config.json"
    return Said(
        prediction or ("v_prediction" if found == "v_prediction" else "epsilon"),
        marked if zero_snr is None else zero_snr,
        file if prediction is None else "--prediction",
        file if zero_snr is None else "--zero-snr",
    )
