"""Closed forms at the true sizes of transformers, beside Stable Diffusion's: seconds and MB.

    python benchmarks/doors.py
    python benchmarks/doors.py --numbers 100 --models "SD 1.5" "Flux.1, Chroma"
    python benchmarks/doors.py --smoke

Only the matrices that read text take part in a closed form, so only they are there, with random weights. The text encoder is
many_size.py's stand-in, so the seconds of reading texts are in a column of their own, and `rank` and `mb` are no more than
an upper mark: the stand-in's words have nothing in common, and those of a real encoder have. A row a (model, names) in
out/benchmarks/doors.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from itertools import product
from types import SimpleNamespace
from typing import Any

import common
import torch
from many_size import MixedText, opted_out
from torch import Tensor
from true_size import denoiser

from eraser_core.backends.diffusers import Budget
from eraser_core.files import tensors_hash

# What reads the text: the matrices' name, how many there are, what each gives and what it reads.
DOORS = {
    "Anima": ("blocks.{}.cross_attn.{}_proj", 56, 2048, 1024),
    "PixArt": ("blocks.{}.cross_attn.kv_linear", 28, 2304, 1152),
    "Lumina 2": ("cap_embedder.1", 1, 2304, 2304),
    "Z-Image": ("cap_embedder.1", 1, 3840, 2560),
    "Qwen-Image": ("txt_in", 1, 3072, 3584),
    "Flux.1, Chroma": ("txt_in", 1, 3072, 4096),
    "SD 3.5 medium": ("context_embedder", 1, 1536, 4096),
    "Wan 14B": ("text_embedding.0", 1, 5120, 4096),
}
KEPT = 20  # retained artists: more of them only make the reading longer
COLUMNS = ("model", "names", "solve_s", "text_s", "mb", "rank", "machine")


class Door(MixedText):
    """All that a closed form asks of a model."""

    def __init__(self, name: str, narrow: bool):
        module, count, out, width = DOORS[name]
        count, out, width = (min(count, 2), 64, 64) if narrow else (count, out, width)
        super().__init__(width, 0)
        generator = torch.Generator().manual_seed(0)
        self._weights = {
            f"diffusion_model.{module.format(i // 2, 'kv'[i % 2]) if 'proj' in module else module.format(i)}.weight": torch.randn(
                out, width, generator=generator
            )
            * width**-0.5
            for i in range(count)
        }
        self.family, self.base_hash = name.lower(), tensors_hash(self._weights, torch.float16)
        self.schedule = SimpleNamespace(prediction="flow")

    def weights(self, _tune: str) -> Mapping[str, Tensor]:
        return self._weights

    def file_names(self) -> Mapping[str, str]:
        modules = [key.rpartition(".")[0] for key in self._weights]
        return {m: "lora_unet_" + m.removeprefix("diffusion_model.").replace(".", "_") for m in modules}

    def as_read(self, tokens: Tensor) -> Tensor:
        """The stand-in's states are normed already."""
        return tokens


def main() -> int:
    """A row a model and number of names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="*", default=[1, 100])
    parser.add_argument("--models", nargs="*", default=["SD 1.5", *DOORS])
    parser.add_argument("--smoke", action="store_true", help="narrow matrices, two names")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("doors_smoke" if args.smoke else "doors", ("model", "names"), fresh=args.smoke)
    for n, name in product([2] if args.smoke else args.numbers, args.models[:3] if args.smoke else args.models):
        if rows.has({"model": name, "names": n}):
            continue
        model: Any = (
            denoiser("sd15", args.smoke, 64, torch.float32, Budget(), reader=MixedText)
            if name == "SD 1.5"
            else Door(name, args.smoke)
        )
        rows.add({"model": name, "names": n, **opted_out(model, n, KEPT), "machine": common.machine()})
        common.log.info("%s", rows.rows[-1])
    common.show(rows.path.stem, common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
