"""What a real model keeps and draws in a concept's place, as far as nobody said it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from ..anchors import anchored, nearest
from ..denoiser import Denoiser
from ..request import Request
from ..retain_lists import LISTS, Kind, guess, kept

log = logging.getLogger(__name__)
SHOWN = 4


def request_of(
    args: argparse.Namespace,
    denoiser: Denoiser,
    wanted: Sequence[tuple[str, Sequence[str]]],
    anchors: Sequence[str | None],
) -> Request:
    """The request of (concept, synonyms): without --retain the lists of the concepts' kinds are kept.

    An anchor that is None is the nearest word of --retain, or of the list of its concept's kind where --retain is bare.
    """
    phrases = [phrase for name, synonyms in wanted for phrase in (name, *synonyms)]
    own = {name: kept(phrases, _kind(args, name)) for name, _ in wanted if not args.retain}
    retain = tuple(args.retain or ())
    if args.retain is None:
        retain = tuple(dict.fromkeys(word for words in own.values() for word in words))
        log.info("the retain set has %d words: %s, ...; --retain takes others, or none", len(retain), _some(retain))
    elif not args.retain:
        log.info("keeping nothing, as --retain says")
    chosen = [
        nearest(denoiser, name, args.retain or own[name]) if anchor is None else anchor
        for (name, _), anchor in zip(wanted, anchors, strict=True)
    ]
    return Request(anchored(denoiser, wanted, chosen, retain), retain, args.seed)


def _kind(args: argparse.Namespace, name: str) -> Kind:
    kind: Kind
    kind, why = guess(name) if args.kind == "auto" else (args.kind, "--kind says so")
    log.info("%r is taken for %s, because %s: its neighbours are %s", name, _one(kind), why, LISTS[kind])
    return kind


def _one(kind: Kind) -> str:
    return f"an {kind}" if kind == "object" else f"a {kind}"


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:: max(1, len(words) // SHOWN)][:SHOWN])
