"""The hidden prompt p: learnt tokens in the text-embedding space that bring the erased concept back (slides, KPOP).

p enters before W_k and W_v, so cat(C, p) or C + p as the context of the whole network is the slides' computation in
every cross-attention block, and no attention code is touched.

It is no cryptographic key: whoever has the weights can train a prompt of their own. An erasure that is shared as a
LoRA for a public base locks nothing at all (leave the file out).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from .denoiser import Context
from .errors import FileFormatError, RequestError
from .files import read_tensors, tensors_hash, write_tensors
from .spelling import close, did_you_mean

Mechanism = Literal["concatenative", "additive"]
Halves = Literal["positive", "both"]
SCHEMA = "concept-eraser-hidden-prompt-1"


def extend(context: Context, p: Tensor, mechanism: Mechanism, chunk: int) -> Context:
    """The context with p [b, k, d] (or [k, d] for all rows): slides, "Cross-Attention with Additional Prompt".

    Concatenative: cat(C, p); additive: C + p with p [b, chunk, d]. A host's prompt of several chunks of tokens gets p
    once a chunk in both, so that p's share of the attention does not fall with the prompt's length. Where texts have
    lengths of their own (chunk 0) p stands once behind each.
    """
    tokens = context.tokens
    chunks = tokens.shape[1] // chunk if chunk else 1
    p = p.to(tokens).expand(tokens.shape[0], -1, -1).repeat(1, chunks, 1)
    return context.with_tokens(torch.cat([tokens, p], 1) if mechanism == "concatenative" else tokens + p)


def first_prompt(
    targets: int, k: int, mechanism: Mechanism, like: Tensor, chunk: int, key_seed: int | None
) -> tuple[Tensor, int]:
    """Where the search for p starts, [targets, k, d] (additive: [targets, chunk, d]), and the seed it came from.

    Noise of the token embeddings' own standard deviation (`like` [b, n, d]), never zero. Without a `key_seed` the
    operating system's entropy is taken, so that neither the request nor the erasure gives the prompt away.
    RequestError for an additive prompt where texts have lengths of their own.
    """
    if mechanism == "additive" and not chunk:
        raise RequestError(
            "the mechanism additive adds to every token, and this model's texts have lengths of their own: set mechanism to "
            "concatenative"
        )
    seed = secrets.randbits(62) if key_seed is None else key_seed
    shape = (targets, k if mechanism == "concatenative" else chunk, like.shape[-1])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (noise * like.float().std().cpu()).to(like.device), seed


@dataclass(frozen=True)
class HiddenPrompt:
    """The learnt tokens of one concept: `tokens` [k, d], or [chunk, d] for the additive mechanism, float32."""

    concept: str
    tokens: Tensor
    mechanism: Mechanism
    tokens_per_chunk: int

    def extend(self, context: Context, strength: float = 1.0) -> Context:
        """The context that recovers the concept; see `join` for the two halves of classifier-free guidance.

        Strength 0 leaves p out (zero tokens would still take attention); others scale it.
        """
        if strength == 0:
            return context
        length, chunk = context.tokens.shape[1], self.tokens_per_chunk
        if length < chunk or (self.mechanism == "additive" and length % chunk):
            raise RequestError(
                f"the hidden prompt for {self.concept!r} is for texts of {chunk} tokens, the model's text has {length}: "
                "it was made for another model"
            )
        if self.tokens.shape[-1] != context.tokens.shape[-1]:
            raise RequestError(
                f"the hidden prompt for {self.concept!r} has {self.tokens.shape[-1]} numbers a token, the model's "
                f"text has {context.tokens.shape[-1]}: it was made for another model"
            )
        return extend(context, self.tokens * strength, self.mechanism, self.tokens_per_chunk)

    def join(
        self, context: Context, negative: Context, strength: float = 1.0, halves: Halves = "positive"
    ) -> tuple[Context, Context]:
        """(context, negative) for sampling, with p in the positive half of the guidance or in both.

        The authors' code gives p to both. Eq. 6 to 8 ask for eps'(c_e, p) = eps(c_e) alone, though, and never look at
        eps'(null, p): where p by itself draws the concept, the guided sum eps'(null, p) + s (eps'(c, p) - eps'(null, p))
        takes away again what p brought. benchmarks/pocket_objects.py measures both.
        """
        return self.extend(context, strength), self.extend(negative, strength) if halves == "both" else negative

    def forged(self, generator: torch.Generator) -> HiddenPrompt:
        """A random prompt of the same size in which every token has the norm of the real one: the control."""
        noise = torch.randn(self.tokens.shape, generator=generator).to(self.tokens)
        norms = self.tokens.norm(dim=-1, keepdim=True)
        return replace(self, tokens=noise / noise.norm(dim=-1, keepdim=True) * norms)


def pick(prompts: Sequence[HiddenPrompt], concept: str) -> HiddenPrompt:
    """The prompt of a concept ("church" also finds "a church"), or the only one when no concept is named.

    RequestError says which there are.
    """
    names = [p.concept for p in prompts]
    if not concept.strip():
        if len(prompts) == 1:
            return prompts[0]
        raise RequestError(f"there are hidden prompts of several concepts ({', '.join(names)}): name one")
    by_word = {p.concept.lower().partition(" ")[2]: p for p in prompts} | {p.concept.lower(): p for p in prompts}
    wanted = concept.strip().lower()
    if wanted in by_word:
        return by_word[wanted]
    near = did_you_mean(close(wanted, by_word)[:1])
    raise RequestError(f"there is no hidden prompt for {concept!r}: there is one for {', '.join(names)}{near}")


def save_prompts(
    path: Path, prompts: Sequence[HiddenPrompt], key_seed: int, erasure_hash: str, facts: Mapping[str, str]
) -> None:
    """Write the prompts of one run, one a concept, to a file of their own that its owner alone can read."""
    tensors = {f"prompt.{i}": p.tokens.float() for i, p in enumerate(prompts)}
    metadata = {
        **facts,
        "hidden_prompt.schema": SCHEMA,
        "hidden_prompt.concepts": json.dumps([p.concept for p in prompts]),
        "hidden_prompt.mechanism": prompts[0].mechanism,
        "hidden_prompt.tokens_per_chunk": str(prompts[0].tokens_per_chunk),
        "hidden_prompt.key_seed": str(key_seed),
        "hidden_prompt.erasure_hash": erasure_hash,
        "hidden_prompt.tensors_hash": tensors_hash(tensors),
    }
    write_tensors(path, tensors, metadata, private=True)


def load_prompts(path: Path) -> tuple[list[HiddenPrompt], dict[str, str]]:
    """The prompts in a file and its metadata; FileFormatError if it is damaged, or something else."""
    from . import records  # not at the host's start: it brings pydantic

    tensors, metadata = read_tensors(path)
    if metadata.get("hidden_prompt.schema") != SCHEMA:
        raise FileFormatError(f"{path} holds no hidden prompt: give the NAME_hidden_prompt.safetensors of an erasing")
    record = records.read(records.PromptRecord, metadata, path)
    records.finite(tensors, path)
    records.same_tensors(tensors, record.tensors_hash, path)
    wanted = [f"prompt.{i}" for i in range(len(record.concepts))]
    if set(wanted) != set(tensors):
        raise FileFormatError(f"{path} is damaged: it names {len(wanted)} concepts and holds {len(tensors)} prompts")
    for name, tokens in tensors.items():
        k = tokens.shape[0] if tokens.dim() == 2 else 0
        fits = k == record.tokens_per_chunk if record.mechanism == "additive" else 1 <= k <= records.MOST_TOKENS
        if not fits:
            raise FileFormatError(f"{path} is damaged: {name} has the shape {list(tokens.shape)}, tokens were expected")
    return [
        HiddenPrompt(concept, tensors[name].float(), record.mechanism, record.tokens_per_chunk)
        for concept, name in zip(record.concepts, wanted, strict=True)
    ], metadata


def prompts_hash(prompts: Sequence[HiddenPrompt]) -> str:
    """SHA-256 over the prompts' values."""
    return tensors_hash({f"prompt.{i}": p.tokens for i, p in enumerate(prompts)})
