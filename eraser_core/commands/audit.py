"""`audit`: how an erasure can be undone."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from .checks import seed, whole

log = logging.getLogger(__name__)
# What the engine registers, by name: looking there brings torch. tests/audit compares.
QUICK = ("words", "negative", "settings", "algebra", "precision", "context")
ATTACKS = (*QUICK, "token", "search", "relearning", "benign", "inpainting", "inversion", "keys")

EPILOG = f"""\
It attacks the erasure and says which attacks bring the concept back: a page, audit.json and pictures in DIR. The erasure and
the model stay as they are. An interrupted audit goes on with the same command. docs/audit.md says what each attack is.

  python -m eraser_core audit out/church/church.safetensors --out out/audit

attacks: {", ".join(ATTACKS)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `audit`."""
    parser.epilog = EPILOG
    parser.add_argument("erasure", type=Path, help="the erasure file")
    parser.add_argument("--model", default="pocket", help="the model that it was made for (default: pocket)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page, the figures and the pictures")
    parser.add_argument(
        "--attacks", nargs="+", action="extend", metavar="NAME", help="which attacks (default: the quick ones)"
    )
    parser.add_argument("--all", action="store_true", help="all attacks, those that train among them")
    parser.add_argument("--images", type=whole(1), default=16, help="pictures a figure (default: 16)")
    parser.add_argument(
        "--concept", metavar="WORD", help="which of its concepts, or what a file erases that says nothing"
    )
    parser.add_argument(
        "--prompt", type=Path, metavar="FILE", help="its hidden prompt, for the attack with foreign keys"
    )
    parser.add_argument("--steps", type=whole(1, 1000), help="sampling steps of the pictures (default: the model's)")
    parser.add_argument("--suite-seed", type=seed, default=0, help="seed of the pictures' noise (default: 0)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the attacks (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    parser.add_argument("--force", action="store_true", help="replace the audit that the folder holds")


def run(args: argparse.Namespace) -> int:
    """Write the page and say the verdict of every attack."""
    from ..audit.record import FILE
    from ..audit.run import audit, check_base, target_of
    from ..erasure import load_erasure
    from ..errors import RequestError
    from ..hidden_prompt import load_prompts
    from ..models import open_model
    from . import folder
    from .loading import usable

    wanted = ATTACKS if args.all else tuple(args.attacks or QUICK)
    unknown = [name for name in wanted if name not in ATTACKS]
    if unknown:
        raise RequestError(f"there is no attack {unknown[0]!r}: choose from {', '.join(ATTACKS)}")
    erasure = load_erasure(args.erasure)
    target_of(erasure, args.concept)
    hidden, facts = load_prompts(args.prompt) if args.prompt else ([], {})
    if hidden and facts["hidden_prompt.erasure_hash"] != erasure.hash():
        raise RequestError(f"{args.prompt} belongs to another erasure than {args.erasure}")
    ours = (args.out / FILE).is_file() and not args.force
    out = args.out if ours and args.out.is_dir() else folder.claim(args.out, args.force)
    model = open_model(args.model, usable(args.device), steps=args.steps, suite_seed=args.suite_seed)
    check_base(model, erasure)
    with folder.held(out):
        if args.force:
            (out / FILE).unlink(missing_ok=True)

        def say(number: int, count: int, name: str) -> None:
            if name:
                log.info("attack %d of %d: %s", number + 1, count, name)

        found = audit(
            model,
            erasure,
            wanted,
            out=out,
            name=args.erasure.stem,
            concept=args.concept,
            hidden=hidden,
            images=args.images,
            seed=args.seed,
            on_attack=say,
        )
    for done in found.attacks:
        log.info("%s: %s", done.name, done.verdict)
    log.info("VERDICT: %s", found.verdict)
    log.info("written: %s", out / "index.html")
    return 0
