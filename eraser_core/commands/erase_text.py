"""`erase` on a model whose text alone is read: a closed form, and no picture."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from .. import erasing as engine
from ..backends.transformer_folder import CLOSED_FORMS, PIXART, PIXART_SIGMA, TransformerFolder
from ..backends.transformer_reader import TransformerReader
from ..errors import RequestError
from ..methods import method
from ..precision import DTYPES
from ..request import Request
from ..text_readers import check_room
from ..text_space import check_layers
from . import asked, checks, folder, written
from .loading import usable

log = logging.getLogger(__name__)


def run(args: argparse.Namespace, out: Path, model: TransformerFolder) -> int:
    """0 when the erasure is written to `out`."""
    chosen = method(args.method)
    if chosen.solve is None:
        raise RequestError(
            f"{args.model} is {model.said}, on which the command line trains nothing: give --method {CLOSED_FORMS}, which are solved "
            "from its text encoders alone"
        )
    checks.only_reads(args.switches, args.model, bool(args.images))
    typed = asked.typed(args)
    settings = engine.configure(chosen, model.family, typed, asked.settings(args))
    device = usable(args.device)
    log.info("model %s is %s; its text is read on %s", args.model, model.said, device)
    reader = TransformerReader(model, device)
    check_layers(reader.weights("xattn-kv"), settings.layers)
    phrases = [phrase for target in typed.targets for phrase in (target.concept, *target.synonyms)]
    if model.family in (PIXART, PIXART_SIGMA) and any(phrase != phrase.lower() for phrase in phrases):
        log.info("PixArt's pipeline makes capitals small, and ComfyUI does not: there the erasure may do less to them")
    check_room(reader, _texts(typed))  # an anchor that nobody named is found by reading many texts
    request = asked.request(args, reader)
    check_room(reader, _texts(request))
    with folder.held(out):
        folder.claim(out, args.force)  # again: another run may have ended there since
        args.replaces = folder.earlier(out)
        folder.keep_arguments(out, args)
        for target in request.targets:
            log.info("erasing %r, drawing %r in its place", target.concept, target.anchor)
        result = engine.solve(reader, request, chosen, settings, DTYPES[args.dtype])
        to = folder.results(out, args.concept)
        written.write(to, args.replaces, result)
    log.info("no picture was drawn: to look at it, load the file and the model in ComfyUI")
    return 0


def _texts(request: Request) -> list[str]:
    pairs = [word for target in request.targets for pair in target.pairs() for word in pair]
    return [*pairs, *request.retain]
