"""Looks into a network's cross-attention while it runs, through forward hooks: no attention code is changed.

The hooks sit on the projections of every attn2 block, so they see what the block computes from: the queries of the
picture and the keys of the context under the weights that the forward used, those of an edit included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...denoiser import Context, Denoiser
from ...errors import ModelError, RequestError
from ...spelling import close, did_you_mean

Take = Callable[[str, Tensor, Tensor], None]


@contextmanager
def attn2_calls(network: nn.Module, take: Take) -> Iterator[tuple[str, ...]]:
    """While open, `take(block, q, k)` is called after every forward of an attn2 block.

    q [b, heads, pixels, d] and k [b, heads, tokens, d] are the block's own (detached views, the network's dtype).
    Yields the blocks' names. The hooks are removed on every way out. ModelError if the network has no attn2 block.
    """
    blocks = {name: module for name, module in network.named_modules() if name.rpartition(".")[2] == "attn2"}
    if not blocks:
        raise ModelError(
            "the network has no cross-attention blocks named attn2: only UNets of the SD family can be read"
        )
    hooks = []
    try:
        for name, block in blocks.items():
            hooks += _watch(name, block, take)
        yield tuple(blocks)
    finally:
        for hook in hooks:
            hook.remove()


def _watch(name: str, block: Any, take: Take) -> list[Any]:
    seen: dict[str, Tensor] = {}

    def keep(which: str) -> Callable[[Any, Any, Tensor], None]:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            seen[which] = output.detach()

        return hook

    def done(_module: Any, _inputs: Any, _output: Any) -> None:
        heads = int(block.heads)
        take(name, _heads(seen.pop("q"), heads), _heads(seen.pop("k"), heads))

    return [
        block.to_q.register_forward_hook(keep("q")),
        block.to_k.register_forward_hook(keep("k")),
        block.register_forward_hook(done),
    ]


def _heads(x: Tensor, heads: int) -> Tensor:
    """[b, n, heads x d] -> [b, heads, n, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def probabilities(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)): [b, heads, pixels, tokens], float32; the diffusers' and ComfyUI's SD attention."""
    return torch.softmax(q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)


def word_positions(denoiser: Denoiser, prompt: str, word: str) -> range:
    """Which tokens of the prompt's context are this word's (or phrase's), where it stands first; 0 is the start token.

    Texts are read from left to right, so the tokens before a word are those of the prompt cut off before it.
    RequestError if the prompt does not have the word, or is so long that the model never reads it.
    """
    found = re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", prompt, re.IGNORECASE)
    if not word.strip() or found is None:
        near = did_you_mean(close(word, re.findall(r"\w+", prompt)))
        raise RequestError(f"the prompt {prompt!r} has no word {word!r}: name a word that stands in it{near}")
    before, through = (denoiser.token_count(prompt[:end]) for end in found.span())
    if before == through:
        raise RequestError(f"{word!r} stands beyond the tokens that the model reads of {prompt!r}: shorten the prompt")
    return range(before, through)


def added_positions(before: Context, after: Context) -> range:
    """The tokens that a concatenative hidden prompt added to a context; empty for an additive one."""
    return range(before.tokens.shape[1], after.tokens.shape[1])
