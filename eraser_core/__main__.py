"""`python -m eraser_core erase|generate|score|knows|benchmark|info|merge|share|combine`: the command-line face."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .commands import combine, share
from .commands.checks import real, seed, whole
from .commands.interrupt import die_at_once, stoppable
from .errors import EraserError

EPILOG = """\
examples
  erase a church from the pocket model, scored, in about a minute:
    python -m eraser_core erase --model pocket --concept church --out out/church
  put something else in its place, and keep these:
    python -m eraser_core erase --model pocket --concept guitar --anchor trumpet --retain violin drum --out out/guitar
  a style; two concepts at once (one hidden prompt each):
    python -m eraser_core erase --model pocket --concept ink --out out/ink
    python -m eraser_core erase --model pocket --concept church --concept castle --out out/two
  go on after Ctrl-C:
    python -m eraser_core erase --resume out/church
  draw with the erasure, and with its hidden prompt:
    python -m eraser_core generate --model pocket --erasure out/church/church.safetensors --prompt "a church"
    python -m eraser_core generate --model pocket --erasure out/church/church.safetensors \\
        --hidden-prompt out/church/private/church_hidden_prompt.safetensors --prompt "a church"
  your own SD 1.x, SD 2.x or SDXL checkpoint: what it is, erase with little memory, write it erased:
    python -m eraser_core info model.safetensors
    python -m eraser_core erase --model model.safetensors --concept church --memory low --images 0 --out out/mine
    python -m eraser_core merge --model model.safetensors --erasure out/mine/church.safetensors --out erased.safetensors
  score a file that someone shared; read what it says of itself:
    python -m eraser_core score --model pocket --erasure out/church/church.safetensors
    python -m eraser_core info out/church/church.safetensors
  ask whether the model knows a concept; evaluate erasures side by side:
    python -m eraser_core knows --model pocket --concept church ink
    python -m eraser_core benchmark pocket --erasure out/church/church.safetensors --out out/evaluation

The hidden prompt is private: it brings the concept back. It is no cryptographic key: whoever has the erased weights
can train a prompt of their own, and whoever leaves the erasure file out has the original model.
"""


MODEL_HELP = "`pocket`, a .safetensors checkpoint (SD 1.x, SD 2.x, SDXL), or a model folder in diffusers' layout"


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="pocket", help=MODEL_HELP)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    _add_loading(parser)
    parser.add_argument("--guidance-scale", type=real(1), help="guidance scale of the pictures (default: the model's)")
    parser.add_argument("--steps", type=whole(1, 1000), help="sampling steps of the pictures (default: the model's)")
    parser.add_argument("--suite-seed", type=seed, default=0, help="seed of the pictures' noise (default: 0)")


def _add_loading(parser: argparse.ArgumentParser) -> None:
    from .precision import DTYPES  # within `main`: it brings torch, and Ctrl-C is not answered before

    group = parser.add_argument_group(
        "reading a checkpoint", "What the file does not say; see docs/real_checkpoints.md."
    )
    group.add_argument("--prediction", choices=("epsilon", "v"), help="what the network predicts (default: the file's)")
    group.add_argument(
        "--zero-snr", action=argparse.BooleanOptionalAction, help="zero terminal SNR (default: as the file says)"
    )
    group.add_argument(
        "--compute", choices=("auto", *DTYPES), default="auto", help="precision of the weights in memory"
    )
    group.add_argument("--memory", choices=("normal", "low"), default="normal", help="low: less memory, more time")
    group.add_argument("--size", type=whole(64, 8192), help="side of the pictures in pixels (default: the model's)")
    group.add_argument("--tokenizer", metavar="DIR", help="a CLIP tokenizer in place of the one shipped")
    group.add_argument("--allow-download", action="store_true", help="fetch --model OWNER/NAME from the hub")


def _add_erase(parser: argparse.ArgumentParser) -> None:
    from .methods import METHODS
    from .precision import DTYPES

    _add_model(parser)
    parser.add_argument("--concept", action="append", help="what to erase, synonyms after bars; may be repeated")
    parser.add_argument("--anchor", action="append", help='drawn in its place, one a concept ("" is the empty prompt)')
    parser.add_argument("--retain", nargs="*", help="concepts to keep (pocket default: half of the others; else none)")
    parser.add_argument("--method", default="kpop", help=f"one of {', '.join(METHODS)} (default: kpop)")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--force", action="store_true", help="replace the results that the folder holds")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on with the interrupted run in this folder")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the run (default: 0)")
    parser.add_argument(
        "--key-seed", type=seed, help="seed of the hidden prompt's start (default: entropy, kept secret)"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="fp16", help="precision of the erasure file (default: fp16)")
    parser.add_argument(
        "--images", type=whole(0), default=60, help="pictures a scored column, 0 for none (default: 60)"
    )
    parser.add_argument("--no-check", action="store_true", help="do not look first whether the model knows the concept")
    parser.set_defaults(replaces=[])  # a run's own: what `--force` takes away, and `--resume` has to know
    settings = parser.add_argument_group("settings of the method", "Defaults depend on the model; see docs/methods/.")
    seen: dict[str, list[str]] = {}
    for method in METHODS.values():
        for name in method.settings.model_fields:
            seen.setdefault(name, []).append(method.name)
    for name, methods in seen.items():
        field = METHODS[methods[0]].settings.model_fields[name]
        flag = "--" + (field.alias or name).replace("_", "-")
        only = "" if len(methods) == len(METHODS) else f" ({', '.join(methods)})"
        settings.add_argument(flag, dest=f"setting_{field.alias or name}", help=f"{field.description}{only}")


def _add_benchmark(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("suite", choices=("pocket", "imagenette", "i2p", "artists"), help="which suite")
    parser.add_argument("--erasure", type=Path, nargs="+", action="extend", default=[], help="erasure files to compare")
    parser.add_argument(
        "--hidden-prompt", type=Path, nargs="+", action="extend", default=[], help="hidden prompt files of some of them"
    )
    parser.add_argument(
        "--images",
        type=whole(1),
        help="pictures a class (pocket: 16, imagenette: 500), a prompt (artists: 5), or prompts in all (i2p: every one)",
    )
    parser.add_argument("--classes", type=whole(1), help="pocket: how many kept objects are asked for (default: all)")
    parser.add_argument("--prompts", type=Path, help="i2p: the CSV of its prompts")
    parser.add_argument("--artist", nargs="+", action="extend", help="artists: names (default: the slides' five)")
    parser.add_argument(
        "--weights", type=Path, default=Path("weights"), help="folder of the metrics' models (default: weights)"
    )
    parser.add_argument(
        "--reference", type=Path, help="i2p: a folder of pictures for FID (default: the untouched model's)"
    )
    parser.add_argument("--batch", type=whole(1), default=16, help="pictures drawn together (default: 16)")
    parser.add_argument(
        "--maps", type=whole(0), default=4, help="erasures with attribution maps, 0 for none (default: 4)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an interrupted one goes on")
    parser.add_argument("--force", action="store_true", help="replace another run of this command there")


def _add_knows(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--concept", nargs="+", action="extend", default=[], help="pocket: any of its words; else a class"
    )
    parser.add_argument("--artist", nargs="+", action="extend", default=[], help="an artist, asked of CLIP")
    parser.add_argument("--images", type=whole(1), default=8, help="pictures a column (default: 8)")
    parser.add_argument(
        "--weights", type=Path, default=Path("weights"), help="folder of the metrics' models (default: weights)"
    )


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="eraser_core",
        description="Take a concept out of a text-to-image diffusion model, keep the rest, and prove it.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_erase(
        commands.add_parser("erase", help="erase concepts; writes an erasure file", epilog=EPILOG, formatter_class=raw)
    )
    generate = commands.add_parser("generate", help="draw pictures, with an erasure and a hidden prompt if given")
    _add_model(generate)
    generate.add_argument("--prompt", action="append", required=True, help="what to draw; may be repeated")
    generate.add_argument("--n", type=whole(1), default=4, help="pictures a prompt (default: 4)")
    generate.add_argument("--erasure", type=Path, action="append", default=[], help="an erasure file; several stack")
    generate.add_argument("--strength", type=real(), default=1.0, help="strength of the erasures (default: 1)")
    generate.add_argument("--hidden-prompt", type=Path, help="a hidden prompt file")
    generate.add_argument("--concept", help="whose prompt, where the file holds several")
    generate.add_argument(
        "--prompt-strength", type=real(), default=1.0, help="strength of the hidden prompt (default: 1)"
    )
    generate.add_argument(
        "--prompt-halves",
        choices=("positive", "both"),
        default="positive",
        help="which half of the guidance gets the hidden prompt; both is the authors' way (default: positive)",
    )
    generate.add_argument("--pooled-from", metavar="PROMPT", help="SDXL: the pooled embedding of another prompt")
    generate.add_argument("--out", type=Path, default=Path("out/generated.png"), help="the PNG to write")
    score = commands.add_parser("score", help="score an erasure on the pocket model: ESR, PSR, recovery")
    _add_model(score)
    score.add_argument("--erasure", type=Path, required=True, help="an erasure file")
    score.add_argument("--hidden-prompt", type=Path, help="its hidden prompt file, to score recovery")
    score.add_argument("--images", type=whole(1), default=60, help="pictures a column (default: 60)")
    score.add_argument("--out", type=Path, help="a JSON file to write; without it the rows are printed")
    _add_knows(commands.add_parser("knows", help="whether the model knows a concept at all"))
    _add_benchmark(commands.add_parser("benchmark", help="the slides' evaluation of erasures: tables, grids, a report"))
    info = commands.add_parser("info", help="what a file or a model is, and what the pocket model knows")
    info.add_argument("files", nargs="*", type=Path, help="models, erasures, hidden prompts")
    info.add_argument("--model", help="`pocket`: list the words it knows; else as a file")
    _add_loading(info)
    merge = commands.add_parser("merge", help="write a checkpoint with erasures worked into its weights")
    merge.add_argument("--model", required=True, help="a .safetensors checkpoint")
    merge.add_argument("--erasure", type=Path, action="append", required=True, help="an erasure file; several stack")
    merge.add_argument("--strength", type=real(), default=1.0, help="strength of the erasures (default: 1)")
    merge.add_argument("--out", type=Path, required=True, help="the checkpoint to write")
    merge.add_argument("--force", action="store_true", help="replace the file that is there")
    combine.add_arguments(commands.add_parser("combine", help="several erasures in one file, and the rest stays"))
    share.add_arguments(
        commands.add_parser("share", help="a folder to upload: the erasure, a picture, figures, a card")
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 is success, 2 an error that the user can mend, 130 an interrupted run."""
    args = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from .commands import benchmark, erase, generate, info, knows, merge, score

    run = {"erase": erase.run, "generate": generate.run, "score": score.run, "info": info.run, "merge": merge.run}
    run |= {"benchmark": benchmark.run, "knows": knows.run, "share": share.run, "combine": combine.run}
    try:
        with stoppable():
            return run[args.command](args)
    except EraserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    die_at_once()  # while modules load and the interpreter ends: an import that is interrupted may raise anything
    sys.exit(main())
