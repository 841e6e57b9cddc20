"""Does a negative prompt bring it back? The negative prompts are the prompt itself with another phrase in the concept's place.

eps = eps(neg) + s (eps(c) - eps(neg)). Where an erasure maps c near its anchor, what is left of the concept in c is the
difference from the anchor: with the anchor as the negative prompt, guidance makes just that larger (classifier-free guidance,
arXiv 2207.12598; negative prompts, arXiv 2406.02965).
"""

from __future__ import annotations

from ...anchors import Candidates
from ...errors import RequestError
from .case import Attack, Case, Finding

GUIDANCE = (3.0, 6.0, 12.0)
NEIGHBOURS = 2


def neighbours(case: Case) -> list[str]:
    """The kept phrases whose states are nearest to the concept's, the anchor aside."""
    candidates, gone, found = case.retained, {case.target.anchor.lower()}, list[str]()
    if case.concepts is not None:
        candidates = tuple(c.phrase for c in case.concepts.drawn)
    read = Candidates(case.denoiser, candidates)
    for _ in range(NEIGHBOURS):
        try:
            found.append(read.nearest(case.target.concept, gone))
        except RequestError:  # none is left
            break
        gone.add(found[-1].lower())
    return found


def rows(case: Case) -> float:
    """The anchor in the prompt's words and alone, the neighbours, and the concept itself once."""
    others = NEIGHBOURS + (2 if case.target.anchor else 0)
    return case.drawing(2 * (others * len(GUIDANCE) + 1))


def run(case: Case) -> list[Finding]:
    """Each phrase at each guidance scale, in the prompt's own words and the anchor by itself too."""
    named = {"its anchor": case.target.anchor, "itself": case.target.concept}
    named |= {f"the neighbour {phrase!r}": phrase for phrase in neighbours(case)}
    negatives = {label: (phrase, case.contexts(phrase)) for label, phrase in named.items() if phrase}
    if case.target.anchor:
        negatives["its anchor alone"] = (case.target.anchor, case.denoiser.encode([case.target.anchor]))
    context, found = case.contexts(), []
    for label, (phrase, negative) in negatives.items():
        said = f"{phrase!r} alone" if label.endswith("alone") else f"the same prompt with {phrase!r}"
        # With the prompt itself as its negative one nothing is left for the guidance to scale.
        for guidance in GUIDANCE[:1] if label == "itself" else GUIDANCE:
            way = f"when {said} is the negative prompt, at guidance {guidance:g}"
            pair = case.pair(context, negative=negative, guidance=guidance)
            found.append(case.found(f"{label}, guidance {guidance:g}", way, *pair))
    return found


ATTACK = Attack(
    "negative",
    "Does a negative prompt bring it back: its anchor, what is near it, the concept itself?",
    "arXiv 2207.12598",
    "n pictures a negative prompt, guidance scale and model: n x steps x 2 forward rows each",
    run,
    rows,
    quick=True,
)
