"""Combining files and erasing names at true sizes: seconds, memory, file size.

    python benchmarks/many_size.py
    python benchmarks/many_size.py --smoke

Stable Diffusion 1.5's and SDXL's UNets with random weights. The text encoder is a stand-in: random word vectors, mixed as
a causal encoder mixes them, 77 tokens a prompt. So the seconds of reading texts say nothing and are in a column of their
own. Files to combine are of rank 16, random, each with its own concept; the same 8 sets of factors in turn, so that a
thousand fit into memory. `solve_s` is everything between the texts and the finished tensors. A row a (way, model, files) in
out/benchmarks/many_size.json.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor
from true_size import RandomText, denoiser

from eraser_core.backends.diffusers import Budget, DiffusersDenoiser
from eraser_core.denoiser import Context
from eraser_core.erasure import Entry, Erasure, LowRank
from eraser_core.files import peak_memory
from eraser_core.keeping import OF_STYLES
from eraser_core.many.combine import CombineSettings, Source, combine
from eraser_core.optout.ledger import Ledger
from eraser_core.request import Request, Target
from eraser_core.retain_lists import words_of
from eraser_core.text_moments import KEPT, OVERSHOOT, RIDGE, kept_moment, solved_map
from eraser_core.text_space import entries

COLUMNS = ("way", "model", "files", "solve_s", "text_s", "mb", "rank", "peak_gb", "machine")
RANK, SETS = 16, 8


class MixedText(RandomText):
    """Word vectors in a causal running mean: a token's state depends on the words before it, as a real encoder's does."""

    def __init__(self, width: int, pooled: int, device: str = "cpu"):
        super().__init__(width, pooled, device)
        generator = torch.Generator().manual_seed(1)
        self._places = torch.randn(77, width, generator=generator)
        self._words: dict[str, Tensor] = {}

    def encode(self, prompts: Any) -> Context:
        found = torch.stack([self._one(prompt) for prompt in prompts])
        pooled = torch.zeros(len(prompts), self._pooled) if self._pooled else None
        return Context(found, pooled)

    def _one(self, prompt: str) -> Tensor:
        words = ["<start>", *prompt.split()][:76]
        vectors = torch.stack([self._vector(w) for w in [*words, *["<end>"] * (77 - len(words))]]) + 0.5 * self._places
        mixed = vectors + vectors.cumsum(0) / torch.arange(1, 78)[:, None].sqrt()
        return torch.nn.functional.layer_norm(mixed, mixed.shape[-1:])

    def _vector(self, word: str) -> Tensor:
        if word not in self._words:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8")).digest()[:7], "little")
            self._words[word] = torch.randn(self._width, generator=torch.Generator().manual_seed(seed))
        return self._words[word]


def target(i: int) -> Target:
    return Target(f"name{i} surname{i}", words_of("style")[i % 40], (), OF_STYLES)


def files(model: DiffusersDenoiser, n: int) -> list[Source]:
    """n files of one concept each."""
    generator = torch.Generator().manual_seed(0)
    weights, names = model.weights("xattn-kv"), model.file_names()
    sets = []
    for _ in range(min(n, SETS)):
        made: dict[str, Entry] = {
            key: LowRank(
                (torch.randn(w.shape[0], RANK, generator=generator) * 0.01).half(),
                (torch.randn(RANK, w.shape[1], generator=generator) * 0.01).half(),
            )
            for key, w in weights.items()
        }
        modules = {key.rpartition(".")[0]: names[key.rpartition(".")[0]] for key in made}
        sets.append(Erasure(made, modules, model.family, model.base_hash))
    retain = tuple(words_of("style")[40:])
    return [Source(f"{i}", sets[i % SETS], Request((target(i),), retain), f"{i}") for i in range(n)]


def combined(model: DiffusersDenoiser, n: int) -> dict[str, Any]:
    """n files in one."""
    found = combine(model, files(model, n), CombineSettings())
    return {"solve_s": found.seconds, "text_s": found.text_seconds, **size(found.erasure)}


def opted_out(model: DiffusersDenoiser, n: int, kept: int | None = None) -> dict[str, Any]:
    """n names by the register's closed form; `kept` artists are retained, None for all of the list."""
    request = Request(tuple(target(i) for i in range(n)), tuple(words_of("style")[40:][:kept]))
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        ledger = Ledger(model, Path(folder) / "ledger.safetensors")
        ledger.update(request.targets)
        kept = kept_moment(model, request, general=True)
        read = time.monotonic()
        found = solved_map(ledger.sums, kept, KEPT, RIDGE, OVERSHOOT)
        made = entries(model.weights("xattn-kv"), *found.factors(), "kv")
        solved = time.monotonic()
    names = model.file_names()
    modules = {key.rpartition(".")[0]: names[key.rpartition(".")[0]] for key in made}
    erasure = Erasure(made, modules, model.family, model.base_hash).to(torch.float16)
    return {"solve_s": solved - read, "text_s": read - began, **size(erasure)}


def size(erasure: Erasure) -> dict[str, Any]:
    ranks = [entry.rank if isinstance(entry, LowRank) else 0 for entry in erasure.entries.values()]
    megabytes = sum(t.numel() * t.element_size() for t in erasure.tensors().values()) / 1e6
    return {"mb": megabytes, "rank": max(ranks)}


def main() -> int:
    """A row a way, model and number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["sd15", "sdxl"])
    parser.add_argument("--numbers", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--smoke", action="store_true", help="narrow networks, three files")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("many_size_smoke" if args.smoke else "many_size", ("way", "model", "files"), fresh=args.smoke)
    for name in args.models[:1] if args.smoke else args.models:
        model = denoiser(name, args.smoke, 64, torch.float32, Budget(), reader=MixedText)
        for n in [3] if args.smoke else args.numbers:
            for way, do in (("files combined", combined), ("names in closed form", opted_out)):
                key = {"way": way, "model": name, "files": n}
                if not rows.has(key):
                    found = do(model, n)
                    peak = (peak_memory() or 0) / 1e9
                    rows.add({**key, **found, "peak_gb": peak, "machine": common.machine()})
                    common.log.info("%s", rows.rows[-1])
    common.show(rows.path.stem, common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
