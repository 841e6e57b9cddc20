"""`knows`: does this base model know the concept at all?"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from ..errors import RequestError
from ..evaluation.knows import Known, known_to_classifier, known_to_clip, known_to_judge, table
from ..evaluation.metrics.classifier import Classifier
from ..evaluation.suites.scorers import CLIP_FOLDER, RESNET_FILE
from ..models import Model
from . import checks
from .loading import opened, usable

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    if not args.concept and not args.artist:
        raise RequestError("name what to ask for: --concept church, or --artist 'Kilian Eng'")
    checks.named((*args.concept, *args.artist), "--concept")
    args.device = usable(args.device)
    model = opened(args)
    answers, unknown = _answers(model, args)
    if not answers:
        raise unknown[0]
    sys.stdout.write(table(answers, args.images, args.suite_seed).markdown())
    for error in unknown:
        log.warning("not asked: %s", error)
    return 0


def _answers(model: Model, args: argparse.Namespace) -> tuple[list[Known], list[RequestError]]:
    """The answers, and why there is none for the other words."""
    found: list[Known] = []
    unknown: list[RequestError] = []
    for name, ask in _questions(model, args):
        try:
            found.append(ask(name))
        except RequestError as error:
            unknown.append(error)
    return found, unknown


def _questions(model: Model, args: argparse.Namespace) -> list[tuple[str, Callable[[str], Known]]]:
    """Every word, with who answers for it."""
    if model.concepts is not None:
        return [(name, lambda name: known_to_judge(model, name, args.images)) for name in (*args.concept, *args.artist)]
    found: list[tuple[str, Callable[[str], Known]]] = []
    if args.concept:
        classifier = Classifier(args.weights / RESNET_FILE, device=args.device)
        found += [(c, lambda name: known_to_classifier(model, classifier, name, args.images)) for c in args.concept]
    if args.artist:
        from ..evaluation.metrics.alignment import ClipScorer  # transformers' CLIP takes seconds to import

        scorer = ClipScorer(args.weights / CLIP_FOLDER, args.device)
        found += [(a, lambda name: known_to_clip(model, scorer, name, args.images)) for a in args.artist]
    return found
