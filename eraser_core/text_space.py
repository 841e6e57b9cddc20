"""What closed-form edits are built from: embeddings of single tokens, and the exact low-rank entries they end in.

Every matrix that reads text (text_layers.py) reads the same text embeddings, so a closed-form edit W' = W (I + E) has one E for all of them.
E = L R^T with one column of L and R a direction: W' - W = (W L) R^T, exactly low-rank in every layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .erasure import Entry, LowRank
from .errors import RequestError
from .request import Request
from .text_layers import is_door
from .text_readers import TextReader, stretches

Tokens = Literal["last", "from_last", "aligned", "all"]
BATCH = 64  # prompts encoded together
NEGLIGIBLE = 1e-10
TINY = 1e-300
SKETCH, ROUNDS = 64, 2  # columns of a range finder at first, and rounds that sharpen it


class ClosedFormSettings(BaseModel):
    """Settings of every method that solves for its edit instead of training it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    layers: Literal["kv", "k", "v"] = Field("kv", description="which of attn2's matrices are edited")


@dataclass(frozen=True)
class TextSpace:
    """Columns in float64: `c` [d, n] tokens to erase, `g` [d, n] what each becomes, `p` [d, m] tokens to preserve.

    `anchored` [n] bool: whether the token's concept has an anchor; without one `g` is a token of the neutral prompt.
    """

    c: Tensor
    g: Tensor
    p: Tensor
    anchored: Tensor


def gather(denoiser: TextReader, request: Request, tokens: Tokens, preserved: Tokens) -> TextSpace:
    """The tokens of the request's prompts, of all stretches: of each the last subject token, those from it on, or all of them.

    "aligned" is all of them with what stands before the last subject token becoming itself. "last" needs the prompt up to its subject only (the encoders are causal), so that is all it encodes.
    """
    found = [_gather(one, request, tokens, preserved) for one in stretches(denoiser)]
    return TextSpace(
        torch.cat([one.c for one in found], 1),
        torch.cat([one.g for one in found], 1),
        torch.cat([one.p for one in found], 1),
        torch.cat([one.anchored for one in found]),
    )


def _gather(denoiser: TextReader, request: Request, tokens: Tokens, preserved: Tokens) -> TextSpace:
    heads = [
        _head(template, phrase)
        for target in (request.targets if tokens == "last" else ())
        for phrase in (target.concept, *target.synonyms, target.anchor)
        for template in target.templates
    ]
    starts = last_tokens(denoiser, [*heads, *(request.retain if preserved == "last" else ())])
    pairs = [
        _filled(template, phrase)
        for target in (request.targets if tokens != "last" else ())
        for template in target.templates
        for phrase in (target.concept, *target.synonyms, target.anchor)
    ]
    whole = _whole(denoiser, [*pairs, *(request.retain if preserved != "last" else ())])
    before, after, anchored = [], [], []
    behind: Tokens = "from_last" if tokens == "aligned" else tokens
    for target in request.targets:
        for phrase in (target.concept, *target.synonyms):
            for template in target.templates:
                b, a = (_columns(denoiser, starts, whole, template, p, behind) for p in (phrase, target.anchor))
                n = min(b.shape[1], a.shape[1])
                if tokens == "aligned":
                    ahead = _columns(denoiser, starts, whole, template, phrase, "all")[:, : -b.shape[1]]
                    before.append(ahead)
                    after.append(ahead)
                    anchored += [bool(target.anchor)] * ahead.shape[1]
                before.append(b[:, :n])
                after.append(a[:, :n])
                anchored += [bool(target.anchor)] * n
    kept = [_columns(denoiser, starts, whole, "{}", prompt, preserved) for prompt in request.retain]
    c = torch.cat(before, 1)
    p = torch.cat(kept, 1) if kept else c[:, :0]
    return TextSpace(c, torch.cat(after, 1), p, torch.tensor(anchored))


def last_tokens(denoiser: TextReader, texts: Sequence[str]) -> dict[str, Tensor]:
    """The state [d] of each text's last word, encoded together and no further than the longest of them goes."""
    different = list(dict.fromkeys(texts))
    if not different:
        return {}
    last = [denoiser.token_count(text) - 1 for text in different]
    states = denoiser.as_read(denoiser.encode_start(different, 1 + max(last)))
    return {text: states[i, k] for i, (text, k) in enumerate(zip(different, last, strict=True))}


def _head(template: str, phrase: str) -> str:
    """The prompt up to the end of its subject; for no subject, of nothing."""
    return template.partition("{}")[0] + phrase if phrase else ""


def _filled(template: str, phrase: str) -> str:
    return template.replace("{}", phrase) if phrase else ""


def _whole(denoiser: TextReader, texts: Sequence[str]) -> dict[str, Tensor]:
    """The states [n, d] of each text, encoded together: an encoder that is read from the disk is read once for many."""
    different = list(dict.fromkeys(texts))
    found: dict[str, Tensor] = {}
    for first in range(0, len(different), BATCH):
        part = different[first : first + BATCH]
        found |= zip(part, denoiser.as_read(denoiser.encode(part).tokens).cpu(), strict=True)
    return found


def _columns(
    denoiser: TextReader,
    starts: Mapping[str, Tensor],
    whole: Mapping[str, Tensor],
    template: str,
    phrase: str,
    tokens: Tokens,
) -> Tensor:
    head = _head(template, phrase)
    if tokens == "last":
        return _double(starts[head][:, None])
    first = 0 if tokens == "all" else denoiser.token_count(head) - 1
    return _double(whole[_filled(template, phrase)][first:].T)


def _double(states: Tensor) -> Tensor:
    """On the CPU: some accelerators have no float64, most have little of it."""
    return states.cpu().double()


def compact(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """left right^T from as many columns as its rank, the weight shared evenly by both sides."""
    q_l, r_l = torch.linalg.qr(left)
    q_r, r_r = torch.linalg.qr(right)
    u, s, vh = torch.linalg.svd(r_l @ r_r.T)
    keep = s > NEGLIGIBLE * s[0]
    root = s[keep].sqrt()
    return q_l @ u[:, : len(s)][:, keep] * root, q_r @ vh[: len(s)].T[:, keep] * root


def principal(b: Tensor, missed: float) -> Tensor:
    """U [d, r] with orthonormal columns such that U U^T b [d, n] lacks at most a share `missed` of b's sum of squares.

    They are b's first left singular vectors, by a randomised range finder (Halko et al., arXiv 0909.4061, alg. 4.4) that
    is widened until it holds enough: a whole decomposition of a large b takes minutes.
    """
    whole, wide = float(b.square().sum()), min(b.shape)
    generator = torch.Generator().manual_seed(0)
    k = min(SKETCH, wide)
    while True:
        q = torch.randn(b.shape[1], k, dtype=b.dtype, generator=generator)
        for _ in range(ROUNDS):
            q = torch.linalg.qr(b.T @ torch.linalg.qr(b @ q).Q).Q
        q = torch.linalg.qr(b @ q).Q
        held, u = torch.linalg.eigh((part := q.T @ b) @ part.T)
        share = held.flip(0).cumsum(0) / max(whole, TINY)
        enough = (share >= 1 - missed).nonzero()
        if len(enough) or k == wide:
            r = int(enough[0]) + 1 if len(enough) else k
            return q @ u.flip(1)[:, :r]
        k = min(2 * k, wide)


def check_layers(keys: Iterable[str], layers: str) -> None:
    """RequestError where `layers` names K or V alone and the model, told by its weights' names, has one matrix for all text."""
    if layers != "kv" and any(is_door(key) for key in keys):
        raise RequestError(
            f'layers is "{layers}", and what reads text in this model is neither K nor V alone: set layers to "kv"'
        )


def entries(weights: Mapping[str, Tensor], left: Tensor, right: Tensor, layers: str) -> dict[str, Entry]:
    """W' = W (I + left right^T), left and right [d, n], as a low-rank entry for every edited matrix.

    RequestError as `check_layers`.
    """
    check_layers(weights, layers)
    left, right = compact(left, right)
    down = right.T.float().contiguous()
    wanted = [name for letter in layers for name in (f".to_{letter}.", f".{letter}_proj.")]
    # A copy of `down` each: tensors that share memory are not written to files.
    return {
        key: LowRank((_double(w) @ left).float().to(w.device), down.clone().to(w.device))
        for key, w in weights.items()
        if is_door(key) or any(x in key for x in wanted)
    }
