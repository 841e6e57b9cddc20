"""`merge`: a whole checkpoint with erasures in it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..backends.checkpoint import open_checkpoint
from ..backends.stored_model import Loading
from ..erasure import load_erasure
from ..errors import OutputError, RequestError
from ..merge import merge

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Write one file."""
    model = Path(args.model)
    if model.is_dir() or args.model == "pocket":
        raise RequestError(f"{args.model} is no single file: merge takes a .safetensors checkpoint")
    if args.out.exists() and not args.force:
        raise OutputError(f"{args.out} is there already: choose another name, or replace it with --force")
    erasures = [load_erasure(path) for path in args.erasure]
    base_hash = open_checkpoint(model, Loading()).base_hash()
    for path, erasure in zip(args.erasure, erasures, strict=True):
        if erasure.base_hash != base_hash:
            log.warning("%s was made on another model of this family: it may erase less", path)
    changed = merge(model, erasures, args.strength, args.out)
    log.info("written: %s (%d weights changed)", args.out, changed)
    return 0
