"""`info`: what a file says of itself, what a model is, and what the pocket model knows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import records
from ..backends.architecture import UNET
from ..backends.checkpoint import pocket_name
from ..backends.find import find_model
from ..backends.stored_model import latent_side
from ..backends.tensor_files import TensorFiles
from ..errors import RequestError
from ..pocket import load_concepts
from ..pocket.concepts import FAMILIES
from .about_file import about, raw
from .loading import loading


def run(args: argparse.Namespace) -> int:
    """Print to standard output."""
    if args.model is None and not args.files:
        raise RequestError("name a file, a model folder, or --model pocket")
    if args.model in FAMILIES:
        sys.stdout.write(_pocket())
    elif args.model is not None:
        sys.stdout.write(_model(args, args.model))
    for path in args.files:
        sys.stdout.write(_said(args, path))
    return 0


def _said(args: argparse.Namespace, path: Path) -> str:
    if args.raw and not path.is_dir():
        return raw(path)
    return _model(args, str(path)) if _is_model(path) else about(path)


def _is_model(path: Path) -> bool:
    return path.is_dir() or any(name.startswith(UNET) for name in TensorFiles([path]).shapes)


def _model(args: argparse.Namespace, name: str) -> str:
    """Family, prediction, precision and sizes, from the headers alone."""
    shipped = pocket_name(TensorFiles([Path(name)])) if Path(name).is_file() else None
    if shipped:
        return f"{name}: a pocket model, which comes with this program; in commands it is called `--model {shipped}`\n"
    model = find_model(name, loading(args), args.allow_download)
    said, side = model.said, latent_side(model, args.size)
    said.schedule()  # refuses what cannot be
    stored = model.precisions()
    count = sum(stored.values())
    shares = ", ".join(f"{str(kind).removeprefix('torch.')} {n / count:.0%}" for kind, n in stored.items())
    lines = [
        f"{name}: a model of the family {model.family}",
        f"  prediction: {said.prediction} ({said.source})",
        f"  zero terminal SNR: {'yes' if said.zero_snr else 'no'} ({said.zero_snr_source})",
        f"  UNet: {count:,} numbers, stored as {shares}",
        f"  text width: {model.unet['cross_attention_dim']}",
        f"  pictures: {8 * side} pixels, latents {side}x{side}",
        f"  base hash: {model.base_hash()}",
    ]
    for erasure in records.merged(model.files.metadata, Path(name)):
        lines.append(f"  holds {erasure.title!r} at strength {erasure.strength:g} (hash {erasure.hash[:12]})")
    return "\n".join(lines) + "\n"


def _pocket() -> str:
    concepts = load_concepts()
    lines = [f"styles: {', '.join(concepts.styles)}"]
    for category in concepts.categories:
        lines.append(f"{category}: {', '.join(c.name for c in concepts.members(category))}")
    return "\n".join(lines) + "\n"
