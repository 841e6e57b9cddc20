"""`info`: what a file says of itself, or what the pocket model knows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..erasure import SCHEMA, load_erasure
from ..errors import FileFormatError, RequestError
from ..files import read_tensors
from ..hidden_prompt import SCHEMA as PROMPT_SCHEMA
from ..models import POCKET
from ..pocket import load_concepts

_PRIVATE = "hidden_prompt.key_seed"


def run(args: argparse.Namespace) -> int:
    """Print to standard output."""
    if args.model is None and not args.files:
        raise RequestError("name a file, or --model pocket")
    if args.model is not None:
        if args.model != POCKET:
            raise RequestError(f"nothing is known of {args.model!r}: only `pocket` lists its words")
        sys.stdout.write(_pocket())
    for path in args.files:
        sys.stdout.write(_file(path))
    return 0


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
        raise FileFormatError(f"{path} is neither an erasure nor a hidden prompt of this program")
    lines = [f"{path}: {kind}, {sum(t.numel() for t in tensors.values()):,} numbers"]
    lines += [f"  {key}: {value}" for key, value in sorted(metadata.items()) if key not in (_PRIVATE, "erasure.keys")]
    return "\n".join(lines) + "\n"
