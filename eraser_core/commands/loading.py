"""The switches that say how a model is read."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from ..backends.stored_model import Loading
from ..denoiser import Prediction
from ..errors import RequestError
from ..models import Model, open_model

log = logging.getLogger(__name__)
PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v": "v_prediction"}


def loading(args: argparse.Namespace, device: str = "cpu") -> Loading:
    """The switches as the backend takes them."""
    return Loading(
        device=device,
        compute=args.compute,
        memory=args.memory,
        prediction=PREDICTIONS.get(args.prediction),
        zero_snr=args.zero_snr,
        size=args.size,
        tokenizer=Path(args.tokenizer) if args.tokenizer else None,
    )


def usable(device: str) -> str:
    """The name of a device that is there, "auto" being the fastest; RequestError for any other."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(kind for kind, usable in there.items() if usable)
    kind = device.partition(":")[0]
    if kind not in there:
        raise RequestError(f"there is no device {device!r}: choose auto, cpu, cuda or mps")
    if not there[kind]:
        raise RequestError(f"--device {device}: this machine, or this build of torch, has none; use --device cpu")
    return device


def opened(args: argparse.Namespace, device: str | None = None) -> Model:
    """The model that the switches name; `device` where it is not the one they name. Says both in one line."""
    wanted = usable(device or args.device)
    log.info("model %s on %s", args.model, wanted)
    return open_model(
        args.model,
        wanted,
        args.guidance_scale,
        args.steps,
        args.suite_seed,
        loading(args, wanted),
        args.allow_download,
    )
