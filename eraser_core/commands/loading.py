"""The switches that say how a model is read."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..backends.stored_model import Loading
from ..denoiser import Prediction
from ..errors import RequestError
from ..models import Model, open_model

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


def opened(args: argparse.Namespace, device: str | None = None) -> Model:
    """The model that the switches name; `device` where it is not the one they name."""
    wanted = device or args.device
    if args.steps is not None and args.steps < 1:
        raise RequestError(f"--steps {args.steps}: a picture takes one sampling step at least")
    return open_model(
        args.model,
        wanted,
        args.guidance_scale,
        args.steps,
        args.suite_seed,
        loading(args, wanted),
        args.allow_download,
    )
