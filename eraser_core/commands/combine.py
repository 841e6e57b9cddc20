"""`combine`: several erasure files into one that leaves the rest as it is."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

log = logging.getLogger(__name__)

EPILOG = """\
Files that were made one by one harm each other when they are stacked. This makes one file of them in seconds. Nothing is
trained. Hidden prompts that are given are fitted to the new file and written beside it, into private/.

  python -m eraser_core combine out/guitar/guitar.safetensors out/dog/dog.safetensors --model pocket --out out/both
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `combine`."""
    parser.epilog = EPILOG
    parser.add_argument("erasures", type=Path, nargs="+", help="erasure files, or folders of them")
    parser.add_argument("--model", default="pocket", help="the model that the files were made for (default: pocket)")
    parser.add_argument(
        "--hidden-prompt", type=Path, nargs="+", action="extend", default=[], help="their hidden prompts"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the combined file")
    parser.add_argument("--kept", type=float, help="weight of what is kept, in times of the concepts (default: 3)")
    parser.add_argument("--overshoot", type=float, help="how far past the least squares the change goes (default: 0.3)")
    parser.add_argument("--rank", type=int, help="rank of the file (default: as much as it takes)")
    parser.add_argument("--name", default="combined", help="name of the file (default: combined)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    parser.add_argument("--force", action="store_true", help="replace the results that the folder holds")


def run(args: argparse.Namespace) -> int:
    """Write the combined erasure and the fitted hidden prompts."""
    from ..files import write_json
    from ..many.combine import combine, configured
    from ..many.files import load_sources, prompts_of, save_combined
    from ..many.harm import harm
    from ..models import open_model
    from . import folder
    from .loading import usable

    out = folder.claim(args.out, args.force)
    settings = configured(args.kept, args.rank, args.overshoot)
    sources = load_sources(args.erasures)
    prompts = prompts_of(sources, args.hidden_prompt)
    denoiser = open_model(args.model, usable(args.device)).denoiser
    found = combine(denoiser, sources, settings, prompts)
    for note in found.notes:
        log.warning("%s", note)
    kept = harm(denoiser, [found.erasure], found.request.retain)
    with folder.held(out):
        folder.claim(out, args.force)
        names = save_combined(out, args.name, found, denoiser)
        write_json(
            out / "combined.json",
            {
                "from": [one.name for one in sources],
                "seconds": found.seconds,
                "text_seconds": found.text_seconds,
                "error": found.error,
                "movements": dict(kept.movements),
            },
        )
    log.info(
        "%d erasures combined in %.1f s, and %.1f s for the texts. The rank leaves out %.2f %% of the change",
        len(sources),
        found.seconds,
        found.text_seconds,
        100 * found.error,
    )
    if kept.text():
        log.warning("%s", kept.text())
    log.info("written to %s: %s", out, ", ".join(names))
    return 0
