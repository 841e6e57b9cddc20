"""`audit`: how an erasure can be undone."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RequestError
from .checks import seed, whole

if TYPE_CHECKING:
    from ..erasure import Erasure
    from ..hidden_prompt import HiddenPrompt

log = logging.getLogger(__name__)
# What the engine registers, by name: looking there brings torch. tests/audit compares.
QUICK = ("words", "negative", "settings", "algebra", "precision", "context")
ATTACKS = (*QUICK, "token", "search", "relearning", "benign", "inpainting", "inversion", "keys")

EPILOG = f"""\
It attacks the erasure and says which attacks bring the concept back: a page, audit.json and pictures in DIR. The erasure and
the model stay as they are; the figures go into the erasure's sidecar. An interrupted audit goes on with the same command. docs/audit.md says what each attack is.

  python -m eraser_core audit out/church/church.safetensors --out out/audit
  python -m eraser_core audit somebodys_lora.safetensors --model model.safetensors --concept church --out out/audit

attacks: {", ".join(ATTACKS)}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `audit`."""
    parser.epilog = EPILOG
    parser.add_argument("erasure", type=Path, help="the erasure file, or any LoRA together with --concept")
    parser.add_argument("--model", default="pocket", help="the model that it was made for (default: pocket)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page, the figures and the pictures")
    parser.add_argument(
        "--attacks", nargs="+", action="extend", metavar="NAME", help="which attacks (default: the quick ones)"
    )
    parser.add_argument("--all", action="store_true", help="all attacks, those that train among them")
    parser.add_argument("--images", type=whole(1), default=16, help="pictures a figure (default: 16)")
    parser.add_argument(
        "--concept",
        metavar="WORD",
        help="which of its concepts (default: all, one after the other), or what a plain LoRA erases, with synonyms after "
        "bars: church|chapel",
    )
    parser.add_argument("--anchor", metavar="WORD", help="what a plain LoRA draws in its place, where you know it")
    parser.add_argument(
        "--prompt",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="its hidden prompt, for the attack with keys; further ones are other concepts' keys",
    )
    parser.add_argument(
        "--lora", type=Path, metavar="FILE", help="a second LoRA, or erasure, that the attack by settings puts on top"
    )
    parser.add_argument("--steps", type=whole(1, 1000), help="sampling steps of the pictures (default: the model's)")
    parser.add_argument("--suite-seed", type=seed, default=0, help="seed of the pictures' noise (default: 0)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the attacks (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    parser.add_argument("--force", action="store_true", help="replace the audit that the folder holds")


def run(args: argparse.Namespace) -> int:
    """Write the page and say the verdict of every attack."""
    from ..audit.beside import write_beside
    from ..audit.record import FILE, PAGE
    from ..audit.run import audit_all
    from ..audit.subject import target_of
    from ..erasure import load_erasure
    from ..models import open_model
    from ..plain_lora import is_plain, read_any, read_lora
    from . import folder
    from .loading import usable

    wanted = ATTACKS if args.all else tuple(args.attacks or QUICK)
    unknown = [name for name in wanted if name not in ATTACKS]
    if unknown:
        raise RequestError(f"there is no attack {unknown[0]!r}: choose from {', '.join(ATTACKS)}")
    plain = is_plain(args.erasure)
    if plain and not args.concept:
        raise RequestError(
            f"{args.erasure} is a plain LoRA, which does not say what it erases: name that with --concept WORD"
        )
    erasure = None if plain else load_erasure(args.erasure)
    if erasure is not None:
        target_of(erasure, args.concept, args.anchor or "")
    keys = _keys(args, erasure)
    ours = (args.out / FILE).is_file() and not args.force
    out = args.out if ours and args.out.is_dir() else folder.claim(args.out, args.force)
    model = open_model(args.model, usable(args.device), steps=args.steps, suite_seed=args.suite_seed)
    note, second = "", read_any(args.lora, model.denoiser) if args.lora else None
    if erasure is None:
        lora = read_lora(args.erasure, model.denoiser)
        erasure, note = lora.erasure, lora.note
    if second is not None:
        note = second.beside(note)

    def say(number: int, count: int, name: str) -> None:
        if name:
            log.info("attack %d of %d: %s", number + 1, count, name)

    found = audit_all(
        model,
        erasure,
        wanted,
        out=out,
        name=args.erasure.stem,
        concept=args.concept,
        anchor=args.anchor or "",
        hidden=keys,
        images=args.images,
        seed=args.seed,
        beside=second.erasure if second else None,
        note=note,
        anew=args.force,
        on_attack=say,
    )
    for one in found.audits:
        for done in one.attacks:
            log.info(
                "%s: %s", done.name if len(found.audits) == 1 else f"{one.setting.concept}, {done.name}", done.verdict
            )
    log.info("VERDICT: %s", found.verdict)
    if not plain:
        write_beside(args.erasure, erasure.hash(), found)
    log.info("written: %s", out / PAGE)
    return 0


def _keys(args: argparse.Namespace, erasure: Erasure | None) -> list[HiddenPrompt]:
    """The hidden prompts of the files that were named; the first file has to be this erasure's."""
    from ..hidden_prompt import load_prompts

    found: list[HiddenPrompt] = []
    for i, path in enumerate(args.prompt or ()):
        prompts, facts = load_prompts(path)
        if i == 0 and (erasure is None or facts["hidden_prompt.erasure_hash"] != erasure.hash()):
            raise RequestError(
                f"{path} belongs to another erasure than {args.erasure}: name its own hidden prompt first"
            )
        found += prompts
    return found
