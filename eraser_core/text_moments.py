"""Second moments of text states: all that a least-squares edit needs to know of a set of prompts.

    C = 1/n sum over n prompts, sum over a prompt's tokens, of s s^T        [d, d], float64, on the CPU

It is as large for a thousand prompts as for one, so lists of any length are gone through in one pass.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .erasure import LowRank
from .files import tensors_hash
from .general_words import general_prompts, general_prompts_with
from .request import Request, Target, fill
from .text_readers import TextReader, places, stretches
from .text_space import BATCH, entries, principal

# Weights of what is kept, in times of the concepts, of the general vocabulary, in times of what is named, and of leaving W as
# it is; chosen on lists of objects that no table reports (docs/results/many.md).
KEPT, GENERAL, RIDGE = 4.5, 3.0, 1e-4
OVERSHOOT = 0.3  # of a closed form where nobody asked for another, for one concept and for many
MISSED = 1e-4  # of how far an edit moves the texts' states, squared: what its low rank leaves out at most
WHOLE = 4  # words: as many are a caption, which is put into no template
MOST_NAMED = 2000  # prompts of retained words: styles bring templates of their own, and their moment is a mean anyway
MOST_KEPT = 2  # text encoders: a moment of SDXL's takes 34 MB
_VOCABULARIES: dict[str, Tensor] = {}


@dataclass(frozen=True)
class ConceptMoments:
    """Of one concept, a mean over its prompts: `c` = sum s s^T and `towards` = sum (g - s) s^T, both [d, d] float64.

    s is a token of the concept's prompt and g the token that it becomes. Subjects are laid over each other at their last
    word: a longer one's first words become the anchor's first, and what stands behind becomes what stands behind the
    anchor. Tokens before the subject become those of the anchor's prompt: in a causal text encoder they are the same.
    """

    c: Tensor
    towards: Tensor


def _batches(denoiser: TextReader, prompts: Sequence[str]) -> Iterator[Tensor]:
    for first in range(0, len(prompts), BATCH):
        yield denoiser.as_read(denoiser.encode(prompts[first : first + BATCH]).tokens).cpu().double()


def moment(denoiser: TextReader, prompts: Sequence[str]) -> Tensor:
    """C [d, d] of these prompts."""
    total: Tensor | None = None
    for states in _batches(denoiser, prompts):
        flat = states.flatten(0, 1)
        flat = flat[flat.any(1)]  # what fills short prompts adds nothing
        part = flat.T @ flat
        total = part if total is None else total.add_(part)
    if total is None:
        raise ValueError("a moment of no prompts")
    return total / len(prompts)


@dataclass(frozen=True)
class ConceptStates:
    """The tokens of a concept's prompts and what each becomes, [m, d] float64, both divided by the root of how many
    prompts there are; `c` and `towards` of `ConceptMoments` are their products."""

    s: Tensor
    g: Tensor


def concept_states(denoiser: TextReader, target: Target) -> ConceptStates:
    """The tokens of a concept's name and synonyms in its templates, against those of its anchor in the same ones."""
    found = [_concept_states(one, target) for one in stretches(denoiser)]
    return ConceptStates(torch.cat([one.s for one in found]), torch.cat([one.g for one in found]))


def _concept_states(denoiser: TextReader, target: Target) -> ConceptStates:
    pairs = target.pairs()
    before = torch.cat(list(_batches(denoiser, [c_e for c_e, _ in pairs])))
    after = torch.cat(list(_batches(denoiser, [c_n for _, c_n in pairs])))
    columns, becomes = [], []
    phrases = [p for p in (target.concept, *target.synonyms) for _ in target.templates]
    for i, (phrase, template) in enumerate(zip(phrases, target.templates * (1 + len(target.synonyms)), strict=True)):
        ahead = template.partition("{}")[0]
        last = denoiser.token_count(fill(ahead + "{}", phrase)) - 1
        first = min(denoiser.token_count(ahead), last)  # of a vector for the whole text both are 0
        # The neutral prompt has no subject: its tokens are taken place by place.
        other = denoiser.token_count(fill(ahead + "{}", target.anchor)) - 1 if target.anchor else last
        n = min(before.shape[1] - last, after.shape[1] - other)
        words = [max(first, other - (last - place)) for place in range(first, last)]
        columns += [before[i, : last + n]]
        becomes += [after[i, :first], after[i, words], after[i, other : other + n]]
    root = len(pairs) ** 0.5
    return ConceptStates(torch.cat(columns) / root, torch.cat(becomes) / root)


def concept_moments(denoiser: TextReader, target: Target) -> ConceptMoments:
    """The moments of a concept's name and synonyms in its templates, against its anchor in the same ones."""
    found = concept_states(denoiser, target)
    return ConceptMoments(found.s.T @ found.s, (found.g - found.s).T @ found.s)


def summed_moments(denoiser: TextReader, targets: Sequence[Target]) -> ConceptMoments:
    """The sums of the moments of all concepts. They are read one after the other: memory does not grow with the list."""
    first, *others = targets
    total = concept_moments(denoiser, first)
    for target in others:
        found = concept_moments(denoiser, target)
        total.c.add_(found.c)
        total.towards.add_(found.towards)
    return total


def kept_moment(denoiser: TextReader, request: Request, general: bool) -> Tensor:
    """K [d, d]: retained prompts and anchors in the targets' templates, and GENERAL times the general vocabulary.

    A prompt that holds a concept to erase is none to keep, such as a retained object in a style that is erased too.
    """
    templates = dict.fromkeys(t for target in request.targets for t in target.templates)
    anchors = dict.fromkeys(target.anchor for target in request.targets if target.anchor)
    words = dict.fromkeys([*request.retain, *anchors])
    named = [prompt for word in words for prompt in _prompts(word, templates)]
    named = [prompt for prompt in dict.fromkeys(named) if not request.erases(prompt)]
    if len(named) > MOST_NAMED:
        named = random.Random(request.seed).sample(named, MOST_NAMED)
    total = moment(denoiser, ["", *named])
    if general:
        total = total + GENERAL * general_moment(
            denoiser, [p for t in request.targets for p in (t.concept, *t.synonyms)]
        )
    return total


def _prompts(word: str, templates: Iterable[str]) -> list[str]:
    """What is kept of a retained word: its prompts; of a whole caption, itself."""
    return [word] if len(word.split()) >= WHOLE else [fill(t, word) for t in templates]


def general_moment(denoiser: TextReader, without: Sequence[str]) -> Tensor:
    """The moment [d, d] of the general vocabulary but for prompts with a word of the phrases `without`."""
    prompts, gone = general_prompts(denoiser.family), general_prompts_with(denoiser.family, without)
    total = len(prompts) * whole_vocabulary(denoiser)
    if gone:
        total = total - len(gone) * moment(denoiser, gone)
    return total / (len(prompts) - len(gone))


def reader_hash(denoiser: TextReader) -> str:
    """A hash of three short prompts as the model's matrices read them.

    It tells models apart that share a text encoder and put a norm of their own behind it.
    """
    prompts = general_prompts(denoiser.family)
    probe = denoiser.as_read(denoiser.encode(["", prompts[0], prompts[-1]]).tokens)
    return tensors_hash({"states": probe.detach().cpu().contiguous()})


def know_vocabulary(reader: str, found: Tensor) -> None:
    """Take the moment of a text encoder's whole vocabulary from a file that an earlier run left."""
    if len(_VOCABULARIES) == MOST_KEPT:
        _VOCABULARIES.pop(next(iter(_VOCABULARIES)))
    _VOCABULARIES[reader] = found


def whole_vocabulary(denoiser: TextReader) -> Tensor:
    """C [d, d] of the general vocabulary.

    It is read once for each text encoder: it takes the most of a solve's time, and the next solve needs it again.
    """
    reader = reader_hash(denoiser)
    if reader not in _VOCABULARIES:
        know_vocabulary(reader, moment(denoiser, general_prompts(denoiser.family)))
    return _VOCABULARIES[reader]


def normal_matrix(c: Tensor, kept: Tensor, weight: float, ridge: float) -> Tensor:
    """c + w K + l I, [d, d] float64, for the sum c of the concepts' moments.

    w K weighs `weight` times as much as c, l I `ridge` times as much as both.
    """
    m = c + weight * c.trace() / kept.trace() * kept
    return m + ridge * m.trace() / len(m) * torch.eye(len(m), dtype=m.dtype)


@dataclass(frozen=True)
class TextMap:
    """The edit W' = W (I + E) with E = `towards` `moment`^-1, [d, d] float64 each.

    `moment` is that of the texts that were weighed against each other, and positive definite.
    """

    towards: Tensor
    moment: Tensor

    @cached_property
    def _root(self) -> Tensor:
        return torch.linalg.cholesky(self.moment)

    @property
    def e(self) -> Tensor:
        """E itself."""
        return torch.cholesky_solve(self.towards.T, self._root).T

    def factors(self, missed: float = MISSED) -> tuple[Tensor, Tensor]:
        """(L, R), each [d, r], with L R^T = E but for a share `missed` of how far the texts' states are moved.

        With `moment` = C C^T that is the sum of squares of E C = `towards` C^-T. Its first r left singular vectors U keep the
        most of it, and L R^T = U U^T E.
        """
        u = principal(torch.linalg.solve_triangular(self._root, self.towards.T, upper=False).T, missed)
        return u, torch.cholesky_solve(self.towards.T @ u, self._root)


def joint_map(
    denoiser: TextReader, request: Request, weight: float, ridge: float, overshoot: float, general: bool
) -> TextMap:
    """The edit W' = W (I + E) that erases every target at once, with E [d, d]:

    E = (1 + b) (sum_i sum (g - s) s^T) (sum_i C_i + w K + l I)^-1

    UCE's least squares with each concept counted once, however many its templates, and with all tokens of a prompt.
    """
    sums = summed_moments(denoiser, request.targets)
    return solved_map(sums, kept_moment(denoiser, request, general), weight, ridge, overshoot)


def solved_map(sums: ConceptMoments, kept: Tensor, weight: float, ridge: float, overshoot: float) -> TextMap:
    """The edit of `joint_map`, from the sums over all concepts."""
    return TextMap((1 + overshoot) * sums.towards, normal_matrix(sums.c, kept, weight, ridge))


def closed_start(denoiser: TextReader, request: Request, device: torch.device) -> dict[str, LowRank]:
    """The joint closed form of all targets as low-rank factors of each layer, for a training to begin from."""
    found: dict[str, LowRank] = {}
    for place in places(denoiser):
        left, right = joint_map(place, request, KEPT, RIDGE, 0.0, general=True).factors()
        solved = entries(place.weights("xattn-kv"), left, right, "kv")
        for key, entry in solved.items():
            if isinstance(entry, LowRank):
                found[key] = LowRank(entry.up.to(device), entry.down.to(device), entry.alpha)
    return found
