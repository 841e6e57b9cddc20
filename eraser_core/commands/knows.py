"""`knows`: does this base model know the concept at all?"""

from __future__ import annotations

import argparse
import sys

from ..errors import RequestError
from ..evaluation.knows import Known, known_to_classifier, known_to_clip, known_to_judge, table
from ..evaluation.metrics.classifier import Classifier
from ..evaluation.suites.scorers import CLIP_FOLDER, RESNET_FILE
from ..models import Model
from . import checks
from .loading import opened, usable


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    if not args.concept and not args.artist:
        raise RequestError("name what to ask for: --concept church, or --artist 'Kilian Eng'")
    checks.named((*args.concept, *args.artist), "--concept")
    args.device = usable(args.device)
    model = opened(args)
    answers = _answers(model, args)
    sys.stdout.write(table(answers, args.images, args.suite_seed).markdown())
    return 0


def _answers(model: Model, args: argparse.Namespace) -> list[Known]:
    if model.concepts is not None:
        return [known_to_judge(model, name, args.images) for name in (*args.concept, *args.artist)]
    found: list[Known] = []
    if args.concept:
        classifier = Classifier(args.weights / RESNET_FILE, device=args.device)
        found += [known_to_classifier(model, classifier, name, args.images) for name in args.concept]
    if args.artist:
        from ..evaluation.metrics.alignment import ClipScorer  # transformers' CLIP takes seconds to import

        scorer = ClipScorer(args.weights / CLIP_FOLDER, args.device)
        found += [known_to_clip(model, scorer, name, args.images) for name in args.artist]
    return found
