"""`share`: a folder ready to upload."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

log = logging.getLogger(__name__)


EPILOG = """\
The folder is ready to upload: the erasure, a picture before and after, its figures, a model card (README.md) and a workflow
for ComfyUI. The picture (before_after.png) and the figures (metrics.json, NAME.evaluation.json) are those beside the file.
The hidden prompt is never in it.

  python -m eraser_core share out/guitar/guitar.safetensors --out upload --licence apache-2.0 --author "Your Name"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `share`."""
    parser.epilog = EPILOG
    parser.add_argument("erasure", type=Path, help="the erasure file; the hidden prompt is never shared")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--licence", default="", help="identifier of the licence, such as apache-2.0 or openrail")
    parser.add_argument("--base", default="", help="name of the base model, as people find it: OWNER/NAME")
    parser.add_argument("--author", default="", help="who made it")
    parser.add_argument(
        "--model", help="draw the picture and the figures that do not lie beside the file, on this model"
    )
    parser.add_argument("--device", default="auto", help="for --model: auto, cpu, cuda, mps (default: auto)")
    parser.add_argument("--images", type=int, default=24, help="for --model: pictures a scored column (default: 24)")
    parser.add_argument("--steps", type=int, help="for --model: sampling steps of the pictures (default: the model's)")
    parser.add_argument("--force", action="store_true", help="replace an earlier shared folder")


def run(args: argparse.Namespace) -> int:
    """Write the folder."""
    from ..errors import RequestError
    from ..models import Model, open_model
    from ..sharing.card import Wishes
    from ..sharing.share import Drawing, share
    from .loading import usable

    if args.images < 1 or (args.steps is not None and args.steps < 1):
        raise RequestError("--images and --steps are at least 1")

    def opened() -> Model:
        return open_model(args.model, usable(args.device), steps=args.steps)

    wishes = Wishes(args.licence.strip(), args.base.strip(), args.author.strip())
    drawing = Drawing(opened, args.images) if args.model else None
    names = share(args.erasure, args.out, wishes, drawing, force=args.force)
    log.info("written to %s: %s", args.out, ", ".join(names))
    if not drawing and "before_after.png" not in names:
        log.info("there is no picture of it: --model draws one")
    return 0
