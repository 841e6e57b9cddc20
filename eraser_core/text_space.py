"""What closed-form edits are built from: embeddings of single tokens, and the exact low-rank entries they end in.

Every matrix that reads text (text_layers.py) reads the same text embeddings, so a closed-form edit W' = W (I + E) has one E for all of them.
E = L R^T with one column of L and R a direction: W' - W = (W L) R^T, exactly low-rank in every layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .denoiser import Denoiser
from .erasure import Entry, LowRank
from .errors import RequestError
from .request import Request
from .text_layers import is_door

Tokens = Literal["last", "from_last", "aligned", "all"]
NEGLIGIBLE = 1e-10


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


def gather(denoiser: Denoiser, request: Request, tokens: Tokens, preserved: Tokens) -> TextSpace:
    """The tokens of the request's prompts: of each the last subject token, those from it on, or all of them.

    "aligned" is all of them with what stands before the last subject token becoming itself. "last" needs the prompt up to its subject only (the encoders are causal), so that is all it encodes.
    """
    heads = [
        _head(template, phrase)
        for target in (request.targets if tokens == "last" else ())
        for phrase in (target.concept, *target.synonyms, target.anchor)
        for template in target.templates
    ]
    starts = last_tokens(denoiser, [*heads, *(request.retain if preserved == "last" else ())])
    before, after, anchored = [], [], []
    behind: Tokens = "from_last" if tokens == "aligned" else tokens
    for target in request.targets:
        for phrase in (target.concept, *target.synonyms):
            for template in target.templates:
                b, a = (_columns(denoiser, starts, template, p, behind) for p in (phrase, target.anchor))
                n = min(b.shape[1], a.shape[1])
                if tokens == "aligned":
                    ahead = _columns(denoiser, starts, template, phrase, "all")[:, : -b.shape[1]]
                    before.append(ahead)
                    after.append(ahead)
                    anchored += [bool(target.anchor)] * ahead.shape[1]
                before.append(b[:, :n])
                after.append(a[:, :n])
                anchored += [bool(target.anchor)] * n
    kept = [_columns(denoiser, starts, "{}", prompt, preserved) for prompt in request.retain]
    c = torch.cat(before, 1)
    p = torch.cat(kept, 1) if kept else c[:, :0]
    return TextSpace(c, torch.cat(after, 1), p, torch.tensor(anchored))


def last_tokens(denoiser: Denoiser, texts: Sequence[str]) -> dict[str, Tensor]:
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


def _columns(denoiser: Denoiser, starts: Mapping[str, Tensor], template: str, phrase: str, tokens: Tokens) -> Tensor:
    head = _head(template, phrase)
    if tokens == "last":
        return _double(starts[head][:, None])
    whole = denoiser.as_read(denoiser.encode([template.replace("{}", phrase) if phrase else ""]).tokens)[0]
    return _double(whole[0 if tokens == "all" else denoiser.token_count(head) - 1 :].T)


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


def factored(e: Tensor, missed: float = 1e-4) -> tuple[Tensor, Tensor]:
    """(L, R), each [d, r], with L R^T = E but for a share `missed` of the sum of squares."""
    u, s, vh = torch.linalg.svd(e)
    share = (s**2).cumsum(0) / (s**2).sum()
    r = min(int((share < 1 - missed).sum()) + 1, len(s))
    return u[:, :r] * s[:r], vh[:r].T


def entries(weights: Mapping[str, Tensor], left: Tensor, right: Tensor, layers: str) -> dict[str, Entry]:
    """W' = W (I + left right^T), left and right [d, n], as a low-rank entry for every edited matrix.

    RequestError where `layers` names K or V alone and the model has one matrix for all text.
    """
    if layers != "kv" and any(is_door(key) for key in weights):
        raise RequestError(
            f'layers is "{layers}", and this model reads all text by one matrix, which is neither K nor V: set layers to "kv"'
        )
    left, right = compact(left, right)
    down = right.T.float().contiguous()
    wanted = [f".to_{letter}." for letter in layers]
    # A copy of `down` each: tensors that share memory are not written to files.
    return {
        key: LowRank((_double(w) @ left).float().to(w.device), down.clone().to(w.device))
        for key, w in weights.items()
        if is_door(key) or any(x in key for x in wanted)
    }
