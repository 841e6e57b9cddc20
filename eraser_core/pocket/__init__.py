"""The pocket model: a small text-to-image model of our own, its concepts and its judge."""

from eraser_core.pocket.concepts import Concept, Concepts, load_concepts
from eraser_core.pocket.judge import Judge, JudgeScores, load_judge
from eraser_core.pocket.model import PocketModel, Schedule, load_pocket
from eraser_core.pocket.tokenizer import WordTokenizer, build_vocabulary

__all__ = [
    "Concept",
    "Concepts",
    "Judge",
    "JudgeScores",
    "PocketModel",
    "Schedule",
    "WordTokenizer",
    "build_vocabulary",
    "load_concepts",
    "load_judge",
    "load_pocket",
]
