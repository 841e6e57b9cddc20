"""The words of the command line, and its help. Nothing here needs torch, so that help and refusals come at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .. import __version__
from . import audit, combine, examples, optout, share
from .checks import real, seed, whole

PROG = "python -m eraser_core"
MODEL_HELP = (
    "`pocket`, `pocket-flow`, a .safetensors checkpoint (SD 1.x, SD 2.x, SDXL), or a model folder in diffusers' layout"
)
READ_HELP = (
    "; with --method uce, time or dp also the folder of Flux.1, Flux.2 klein, Chroma, Stable Diffusion 3, Qwen-Image, Z-Image, "
    "Lumina 2, PixArt or Wan"
)
DEVICE_HELP = "auto, cpu, cuda, mps (default: auto, the fastest that is there)"
# What the engine's registers hold, by name: looking there brings torch. tests/commands/test_help.py compares.
METHODS = ("kpop", "naive", "esd", "ca", "robust", "locked", "uce", "time", "dp")
DTYPES = ("fp16", "bf16", "fp32")
SETTINGS = (
    *("iterations", "batch", "tune", "rank", "null_space", "kept_energy"),
    *("start", "confine", "optimizer", "eta", "retain_weight"),
    *("guidance", "sampler_steps", "latents", "latents_from", "pool_size", "per_trajectory", "refresh_every"),
    *("mechanism", "k", "lambda", "eta_p", "opens", "recovery_target", "overshoot", "layers", "directions"),
    *(
        "resist_weight",
        "margin",
        "retain_rows",
        "contexts",
        "context_rows",
        "context_steps",
        "context_rate",
        "context_age",
    ),
    *("renew_every", "pictures", "least_noise", "close", "near", "key_norm"),
    *("preset", "l", "s_e", "s_p", "negative_guidance", "anchor_images", "anchor_guidance", "from_anchor"),
)
Group = argparse._ArgumentGroup


def _method(text: str) -> str:
    if text not in METHODS:
        raise argparse.ArgumentTypeError(f"there is no method {text!r}: choose one of {', '.join(METHODS)}")
    return text


class Several(argparse._ExtendAction):
    """Words after one switch, and after further ones of its name: `--concept church guitar --concept ink`."""


def _several(group: Group | argparse.ArgumentParser, switch: str, help: str, **more: object) -> None:
    more.setdefault("nargs", "+")
    group.add_argument(switch, action=Several, help=help, **more)  # type: ignore[arg-type]


def _model(parser: argparse.ArgumentParser, default: str | None = "pocket", more: str = "") -> Group:
    """The group "how", begun with the model and where it runs."""
    group = parser.add_argument_group("how")
    said = f"{MODEL_HELP}{more} (default: {default})" if default else MODEL_HELP
    group.add_argument("--model", default=default, help=said)
    group.add_argument("--device", default="auto", help=DEVICE_HELP)
    return group


def _drawing(parser: argparse.ArgumentParser) -> Group:
    """How pictures are sampled, which every drawing command has."""
    group = parser.add_argument_group("pictures")
    group.add_argument("--guidance-scale", type=real(1), help="guidance scale of the pictures (default: the model's)")
    group.add_argument("--steps", type=whole(1, 1000), help="sampling steps of the pictures (default: the model's)")
    group.add_argument("--suite-seed", type=seed, default=0, help="seed of the pictures' noise (default: 0)")
    return group


def _loading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "reading a checkpoint", "What the file does not say; see docs/real_checkpoints.md."
    )
    group.add_argument("--prediction", choices=("epsilon", "v"), help="what the network predicts (default: the file's)")
    group.add_argument(
        "--zero-snr", action=argparse.BooleanOptionalAction, help="zero terminal SNR (default: as the file says)"
    )
    group.add_argument(
        "--compute",
        choices=("auto", *DTYPES),
        default="auto",
        help="precision of the weights in memory (default: auto, fp32 on a CPU, else the file's)",
    )
    group.add_argument(
        "--memory", choices=("normal", "low"), default="normal", help="low: less memory, more time (default: normal)"
    )
    group.add_argument("--size", type=whole(64, 8192), help="side of the pictures in pixels (default: the model's)")
    group.add_argument("--tokenizer", metavar="DIR", help="a CLIP tokenizer in place of the one shipped")
    group.add_argument("--allow-download", action="store_true", help="fetch --model OWNER/NAME from the hub")


def _erase(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    _several(what, "--concept", "what to erase, synonyms after bars; one or several", metavar="WORD")
    _several(what, "--anchor", 'drawn in its place, one a concept ("" is the empty prompt; default: the nearest kept)')
    _several(
        what,
        "--retain",
        "concepts to keep, or none (default: half of what the pocket model knows; on other models the list of its kind)",
        nargs="*",
        metavar="WORD",
    )
    what.add_argument(
        "--kind",
        choices=("auto", "object", "style", "scene"),
        default="auto",
        help="other models than pocket: what it is, for the list to keep and the anchor (default: auto, by its words)",
    )
    how = _model(parser, more=READ_HELP)
    how.add_argument("--method", type=_method, default="kpop", help=f"one of {', '.join(METHODS)} (default: kpop)")
    how.add_argument("--seed", type=seed, default=0, help="seed of the run (default: 0)")
    how.add_argument("--key-seed", type=seed, help="seed of the hidden prompt's start (default: entropy, kept secret)")
    how.add_argument("--no-check", action="store_true", help="do not look first whether the model knows the concept")
    pictures = _drawing(parser)
    pictures.add_argument(
        "--images", type=whole(0), default=12, help="pictures a scored column, 0 for none (default: 12)"
    )
    _loading(parser)
    files = parser.add_argument_group("files")
    files.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    files.add_argument("--force", action="store_true", help="replace the results that the folder holds")
    files.add_argument("--resume", type=Path, metavar="DIR", help="go on with the interrupted run in this folder")
    files.add_argument("--dtype", choices=DTYPES, default="fp16", help="precision of the erasure file (default: fp16)")
    parser.set_defaults(replaces=[])  # a run's own: what `--force` takes away, and `--resume` has to know
    for name in SETTINGS:
        parser.add_argument("--" + name.replace("_", "-"), dest=f"setting_{name}", help=argparse.SUPPRESS)
    parser.add_argument_group(
        "settings by method",
        f"Each method has settings of its own: `{PROG} erase --method NAME --help` lists them, with their defaults.",
    )


def _generate(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    _several(what, "--prompt", "what to draw; one or several", required=True)
    what.add_argument("--n", type=whole(1), default=4, help="pictures a prompt (default: 4)")
    _several(
        what, "--erasure", "erasure files or folders of them; several stack", type=Path, default=[], metavar="FILE"
    )
    what.add_argument("--strength", type=real(), default=1.0, help="strength of the erasures (default: 1)")
    _several(
        what,
        "--hidden-prompt",
        "hidden prompt files; --concept says whose is used",
        type=Path,
        default=[],
        metavar="FILE",
    )
    _several(
        what,
        "--concept",
        "whose hidden prompt, where there are several: one for all prompts, or one each in their order",
        default=[],
        metavar="WORD",
    )
    what.add_argument("--prompt-strength", type=real(), default=1.0, help="strength of the hidden prompt (default: 1)")
    what.add_argument(
        "--prompt-halves",
        choices=("positive", "both"),
        default="positive",
        help="which half of the guidance gets the hidden prompt; both is the authors' way (default: positive)",
    )
    what.add_argument("--pooled-from", metavar="PROMPT", help="SDXL: the pooled embedding of another prompt")
    _model(parser)
    _drawing(parser)
    _loading(parser)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--out",
        type=Path,
        metavar="PNG",
        help="the grid to write, with its pictures beside it (default: out/generated.png, or the next free number)",
    )


def _score(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    _several(
        what,
        "--erasure",
        "erasure files or folders of them, each scored by itself",
        type=Path,
        required=True,
        metavar="FILE",
    )
    _several(
        what, "--hidden-prompt", "their hidden prompt files, to score recovery", type=Path, default=[], metavar="FILE"
    )
    _model(parser)
    pictures = _drawing(parser)
    pictures.add_argument("--images", type=whole(1), default=60, help="pictures a column (default: 60)")
    _loading(parser)
    files = parser.add_argument_group("files")
    files.add_argument("--out", type=Path, metavar="JSON", help="a file to write every figure to")
    files.add_argument("--json", action="store_true", help="print every figure as JSON, in place of a table")


def _knows(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    _several(what, "--concept", "pocket: any of its words; else a class of Imagenette", default=[], metavar="WORD")
    _several(what, "--artist", "an artist, asked of CLIP", default=[], metavar="NAME")
    how = _model(parser)
    how.add_argument(
        "--weights", type=Path, default=Path("weights"), help="folder of the metrics' models (default: weights)"
    )
    pictures = _drawing(parser)
    pictures.add_argument("--images", type=whole(1), default=8, help="pictures a column (default: 8)")
    _loading(parser)


def _benchmark(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("suite", choices=("pocket", "imagenette", "i2p", "artists"), help="which suite")
    _several(what, "--erasure", "erasure files to compare, or folders of them", type=Path, default=[], metavar="FILE")
    _several(what, "--hidden-prompt", "hidden prompt files of some of them", type=Path, default=[], metavar="FILE")
    _several(what, "--artist", "artists: names (default: the slides' five)", metavar="NAME")
    what.add_argument("--classes", type=whole(1), help="pocket: how many kept objects are asked for (default: all)")
    what.add_argument("--prompts", type=Path, metavar="CSV", help="i2p: its prompts")
    how = _model(parser)
    how.add_argument(
        "--weights", type=Path, default=Path("weights"), help="folder of the metrics' models (default: weights)"
    )
    how.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="i2p: a folder of pictures for FID (default: the untouched model's)",
    )
    pictures = _drawing(parser)
    pictures.add_argument(
        "--images",
        type=whole(1),
        help="pictures a class (pocket: 16, imagenette: 500), a prompt (artists: 5), or prompts in all (i2p: every one)",
    )
    pictures.add_argument("--batch", type=whole(1), default=16, help="pictures drawn together (default: 16)")
    pictures.add_argument(
        "--maps", type=whole(0), default=4, help="erasures with attribution maps, 0 for none (default: 4)"
    )
    _loading(parser)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="folder of the run; an interrupted one goes on"
    )
    files.add_argument("--force", action="store_true", help="replace another run of this command there")


def _info(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("files", nargs="*", type=Path, help="models, erasures, hidden prompts")
    what.add_argument("--model", help="`pocket`: list the words it knows; else as a file")
    what.add_argument("--raw", action="store_true", help="all that a file says of itself, as it is written")
    _loading(parser)


def _merge(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--model", required=True, help="a .safetensors checkpoint")
    _several(
        what, "--erasure", "erasure files or folders of them; several stack", type=Path, required=True, metavar="FILE"
    )
    what.add_argument("--strength", type=real(), default=1.0, help="strength of the erasures (default: 1)")
    files = parser.add_argument_group("files")
    files.add_argument("--out", type=Path, metavar="FILE", required=True, help="the checkpoint to write")
    files.add_argument("--force", action="store_true", help="replace the file that is there")


COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None]]] = {
    "erase": ("erase concepts; writes an erasure file", "--concept WORD [WORD ...] --out DIR", _erase),
    "generate": ("draw pictures, with an erasure and a hidden prompt if given", "--prompt PROMPT [...]", _generate),
    "score": ("score an erasure on the pocket model: ESR, PSR, recovery", "--erasure FILE [...]", _score),
    "knows": ("whether the model knows a concept at all", "--concept WORD [WORD ...]", _knows),
    "benchmark": (
        "the slides' evaluation of erasures: tables, grids, a report",
        "SUITE --erasure FILE [...] --out DIR",
        _benchmark,
    ),
    "info": ("what a file or a model is, and what the pocket model knows", "FILE [...]", _info),
    "merge": (
        "write a checkpoint with erasures worked into its weights",
        "--model FILE --erasure FILE [...] --out FILE",
        _merge,
    ),
    "combine": (
        "several erasures in one file, and the rest stays",
        "FILE [...] --out DIR",
        combine.add_arguments,
    ),
    "optout": (
        "erase a register of names, and keep up with it",
        "REGISTER --out DIR",
        optout.add_arguments,
    ),
    "audit": (
        "how an erasure can be undone: attacks, pictures, a verdict",
        "ERASURE --out DIR",
        audit.add_arguments,
    ),
    "share": (
        "a folder to upload: the erasure, a picture, figures, a card",
        "FILE --out DIR",
        share.add_arguments,
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage=f"{PROG} COMMAND [switches]",
        description="Take a concept out of a text-to-image diffusion model, keep the rest, and prove it.",
        epilog=examples.OVERVIEW,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"concept-eraser {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands", prog=PROG)
    for name, (about, usage, add) in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=about,
            usage=f"{PROG} {name} {usage} [switches]",
            description=about[:1].upper() + about[1:] + ".",
            epilog=examples.OF.get(name),  # those that are not there set their own
            formatter_class=raw,
        )
        add(one)
    return parser
