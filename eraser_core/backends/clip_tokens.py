"""CLIP's tokenizer, which all Stable Diffusion models share: from the vocabulary that is shipped here, or from a folder.

Single-file checkpoints carry no vocabulary. The shipped one are the 48,894 merges of OpenAI's CLIP (MIT, see NOTICE).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from ..errors import ModelError

LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
MERGES = Path(__file__).resolve().parent / "vocabulary" / "clip_merges.txt.gz"
# OpenAI's own pattern (CLIP, simple_tokenizer.py): contractions, runs of letters, single digits, the rest
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class ClipTokens:
    """Prompts to token ids, cut and padded to 77."""

    def __init__(self, tokenizer: Tokenizer, start: int, end: int):
        self._tokenizer, self._start, self.end = tokenizer, start, end

    def ids(self, prompts: Sequence[str], pad: int) -> Tensor:
        """[len(prompts), 77] int64: start, words, end, then `pad` (SD1.x pads with the end token, OpenCLIP with 0)."""
        rows = [self.row(prompt) for prompt in prompts]
        return torch.tensor([row + [pad] * (LENGTH - len(row)) for row in rows])

    def count(self, prompt: str) -> int:
        """How many tokens are the start and the prompt's words."""
        return len(self.row(prompt)) - 1

    def excess(self, prompt: str) -> int:
        """How many of a prompt's tokens there is no room for."""
        return max(len(self._words(prompt)) - (LENGTH - 2), 0)

    def row(self, prompt: str) -> list[int]:
        """Start, words, end: no more than there is room for."""
        return [self._start, *self._words(prompt)[: LENGTH - 2], self.end]

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The word of every token by its number; "" for a piece of a word, a mark, or what is no letter."""
        known = self._tokenizer.get_vocab()
        words = [""] * (1 + max(known.values()))
        for token, i in known.items():
            word = token.removesuffix(END_OF_WORD)
            whole = word != token and word.isascii() and word.isalpha()
            words[i] = word if whole and self._words(word) == [i] else ""
        return tuple(words)

    def _words(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(prompt, add_special_tokens=False).ids
        return ids


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The shipped words with their ids, and the merges that make them."""
    merges = _merges(gzip.decompress(MERGES.read_bytes()).decode("utf-8"))
    letters = byte_letters()
    words = [*letters, *(letter + END_OF_WORD for letter in letters), *(a + b for a, b in merges), START, END]
    return {word: i for i, word in enumerate(words)}, merges


@cache
def shipped_tokens() -> ClipTokens:
    """The tokenizer of OpenAI's CLIP."""
    return _tokens(*vocabulary())


def folder_tokens(path: Path) -> ClipTokens:
    """The tokenizer in a folder (vocab.json beside merges.txt, or tokenizer.json); ModelError when there is none."""
    words, merges, whole = path / "vocab.json", path / "merges.txt", path / "tokenizer.json"
    try:
        if words.is_file() and merges.is_file():
            return _tokens(json.loads(words.read_text("utf-8")), _merges(merges.read_text("utf-8")))
        if whole.is_file():
            tokenizer = Tokenizer.from_file(str(whole))
            return ClipTokens(tokenizer, tokenizer.get_vocab()[START], tokenizer.get_vocab()[END])
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(f"the CLIP tokenizer in {path} cannot be read ({error!r}): fetch its files again") from error
    raise ModelError(f"{path} holds no CLIP tokenizer: it needs vocab.json and merges.txt, or tokenizer.json")


def _merges(text: str) -> list[tuple[str, str]]:
    lines = [line.split() for line in text.splitlines() if not line.startswith("#version")]
    return [(line[0], line[1]) for line in lines if len(line) == 2]


def _tokens(words: dict[str, int], merges: list[tuple[str, str]]) -> ClipTokens:
    tokenizer = Tokenizer(models.BPE(words, merges, unk_token=END, end_of_word_suffix=END_OF_WORD))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "removed", invert=True), ByteLevel(add_prefix_space=False)]
    )
    return ClipTokens(tokenizer, words[START], words[END])


def byte_letters() -> list[str]:
    """The 256 letters that stand for bytes, in the vocabulary's order: printable ones for themselves, then the rest."""
    own = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    return [chr(b) for b in own] + [chr(256 + i) for i in range(256 - len(own))]
