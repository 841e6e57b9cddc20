"""`info`: what a file says of itself, what a model is, and what the pocket model knows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .. import records
from ..backends.architecture import UNET
from ..backends.find import find_model
from ..backends.stored_model import latent_side
from ..backends.tensor_files import TensorFiles
from ..erasure import SCHEMA, load_erasure
from ..errors import FileFormatError, RequestError
from ..files import read_tensors
from ..hidden_prompt import SCHEMA as PROMPT_SCHEMA
from ..models import POCKET
from ..pocket import load_concepts
from .loading import loading

_PRIVATE = "hidden_prompt.key_seed"


def run(args: argparse.Namespace) -> int:
    """Print to standard output."""
    if args.model is None and not args.files:
        raise RequestError("name a file, a model folder, or --model pocket")
    if args.model == POCKET:
        sys.stdout.write(_pocket())
    elif args.model is not None:
        sys.stdout.write(_model(args, args.model))
    for path in args.files:
        sys.stdout.write(_model(args, str(path)) if _is_model(path) else _file(path))
    return 0


def _is_model(path: Path) -> bool:
    return path.is_dir() or any(name.startswith(UNET) for name in TensorFiles([path]).shapes)


def _model(args: argparse.Namespace, name: str) -> str:
    """Family, prediction, precision and sizes, from the headers alone."""
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


def _file(path: Path) -> str:
    tensors, metadata = read_tensors(path)
    if metadata.get("erasure.schema") == SCHEMA:
        kind = f"an erasure of {len(load_erasure(path).entries)} weights"
    elif metadata.get("hidden_prompt.schema") == PROMPT_SCHEMA:
        kind = "a hidden prompt (private: it brings the concept back)"
    else:
        raise FileFormatError(f"{path} is neither a model nor an erasure or a hidden prompt of this program")
    lines = [f"{path}: {kind}, {sum(t.numel() for t in tensors.values()):,} numbers"]
    for key, value in sorted(metadata.items()):
        if key not in (_PRIVATE, "erasure.keys"):
            picture = key == "modelspec.thumbnail"  # thousands of letters
            lines.append(f"  {key}: {f'a picture of {len(value):,} bytes' if picture else value}")
    return "\n".join(lines) + "\n"
