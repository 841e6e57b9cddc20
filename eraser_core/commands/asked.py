"""What the switches of `erase` ask for, as the engine takes it."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from ..errors import RequestError
from ..keeping import choose, parted
from ..request import Request, Target
from ..text_readers import TextReader
from . import checks

log = logging.getLogger(__name__)


def words(args: argparse.Namespace) -> tuple[list[tuple[str, list[str]]], list[str | None]]:
    """(concept, synonyms) each, and an anchor for each, None where none was named; RequestError for what is missing or empty."""
    if not args.concept:
        raise RequestError("name what to erase: --concept church")
    if not all(concept.split("|")[0].strip() for concept in args.concept):
        raise RequestError("a concept to erase is empty: name what should vanish, as in --concept church")
    checks.named(args.retain or (), "--retain")
    return parted(args.concept, args.anchor or [])


def typed(args: argparse.Namespace) -> Request:
    """As much of the request as was typed, so that what is wrong with it is refused before a model reads a text."""
    wanted, anchors = words(args)
    targets = [Target(name, to or "", tuple(synonyms)) for (name, synonyms), to in zip(wanted, anchors, strict=True)]
    return Request(tuple(targets), tuple(args.retain or ()), args.seed)


def request(args: argparse.Namespace, model: TextReader) -> Request:
    """What to erase from a model of anybody's, and what to keep; the log says what was chosen."""
    wanted, anchors = words(args)
    found = choose(model, wanted, anchors, args.retain, args.seed, args.kind)
    for note in found.notes:
        log.info("%s", note)
    if args.retain is None:
        log.info("--retain takes other words to keep, or none; --kind says what a concept is")
    return found.request


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The method's settings that were given."""
    return {k.removeprefix("setting_"): v for k, v in vars(args).items() if k.startswith("setting_") and v is not None}
