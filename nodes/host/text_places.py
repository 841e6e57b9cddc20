"""Where a prompt's words lie among the states of the host's text encoders (eraser_core/text_places.py).

What is filling and what an encoder leaves out is told by an empty prompt's tokens and states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from eraser_core.text_places import Places


def unweighted(clip: Any) -> dict[str, bool]:
    """What `tokenize` is told so that brackets in a prompt are letters and not weights.

    Tokenizers with a chat template see to it by themselves, and refuse to be told.
    """
    return {} if hasattr(clip.tokenizer, "llama_template") else {"disable_weights": True}


def encoders(clip: Any) -> tuple[str, ...]:
    """The tokenizers of those encoders of a Stable Diffusion 3 CLIP whose states follow each other; it may lack some.

    CLIP-L's and CLIP-G's tokens are at the same places, and their states lie beside each other.
    """
    own = {name for name, part in clip.cond_stage_model.named_children() if part is not None}
    found = {"l": bool(own & {"clip_l", "clip_g"}), "t5xxl": "t5xxl" in own}
    return tuple(name for name, there in found.items() if there) or ("",)


def places(clip: Any, nothing: Tensor, tokenizer: str = "") -> Places:
    """Places of words in the states of one encoder; `nothing` [1, 64, d] are its states of the empty prompt.

    `tokenizer` is the CLIP's word for the encoder's tokenizer. Without it, it is the last one: where there are several, that
    one's states are the context.
    """
    whole = _ids(clip, "", tokenizer)
    filling = whole[-1] if len(whole) > 1 and whole[-1] == whole[-2] else None
    states = int(nothing[0].abs().sum(1).ne(0).sum())
    left_out = max(len(whole) - states, 0) if filling is None else 0
    return Places(lambda prompt: _words_of(_ids(clip, prompt, tokenizer), filling), left_out)


def _ids(clip: Any, prompt: str, tokenizer: str) -> list[Any]:
    found = clip.tokenize(prompt, **unweighted(clip))
    chunks = found[tokenizer] if tokenizer else list(found.values())[-1]
    return [pair[0] for pair in chunks[0]]


def _words_of(ids: Sequence[Any], filling: Any) -> list[Any]:
    """The tokens without the filling behind them."""
    n = len(ids)
    while filling is not None and n and ids[n - 1] == filling:
        n -= 1
    return list(ids[:n])
