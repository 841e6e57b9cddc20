"""`python -m eraser_core erase|generate|score|knows|benchmark|info|merge|combine|optout|audit|share`: the command-line face."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from .commands.arguments import build_parser
from .commands.interrupt import die_at_once, stoppable
from .errors import EraserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 is success, 2 an error that the user can mend, 130 an interrupted run."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        named = _method_in_help(words)
        if named is not None:
            from .commands.method_help import method_help  # it brings torch, which other help does without

            sys.stdout.write(method_help(named))
            return 0
        args = build_parser().parse_args(words)
        args.switches = [word.partition("=")[0] for word in words if word.startswith("--")]
        run = import_module(f".commands.{args.command}", __package__).run
        with stoppable():
            return int(run(args))
    except EraserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _method_in_help(words: Sequence[str]) -> str | None:
    """The method whose settings `erase --method NAME --help` asks for."""
    if words[:1] != ["erase"] or not {"-h", "--help"} & set(words):
        return None
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--method", nargs="?")
    found: str | None = parser.parse_known_args([word for word in words if word not in ("-h", "--help")])[0].method
    return found


def entry() -> int:
    """The console script."""
    die_at_once()  # while modules load and the interpreter ends: an import that is interrupted may raise anything
    return main()


if __name__ == "__main__":
    sys.exit(entry())
