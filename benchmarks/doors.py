"""Closed forms at the true sizes of transformers whose text enters by one matrix, beside Stable Diffusion's: seconds and MB.

    python benchmarks/doors.py
    python benchmarks/doors.py --smoke

Only the matrix that reads text takes part in a closed form, so only it is there, with random weights. The text encoder is
many_size.py's stand-in, so the seconds of reading texts are in a column of their own. A row a (model, names) in
out/benchmarks/doors.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import common
import torch
from many_size import MixedText, opted_out
from torch import Tensor
from true_size import denoiser

from eraser_core.backends.diffusers import Budget
from eraser_core.files import tensors_hash

DOORS = {  # the matrix, what it gives and what it reads
    "Flux.1": ("txt_in", 3072, 4096),
    "Chroma": ("txt_in", 3072, 4096),
    "Qwen-Image": ("txt_in", 3072, 3584),
    "Z-Image": ("cap_embedder.1", 3840, 2560),
    "Lumina 2": ("cap_embedder.1", 2304, 2304),
}
COLUMNS = ("model", "names", "solve_s", "text_s", "mb", "rank", "machine")


class Door(MixedText):
    """All that a closed form asks of a model."""

    def __init__(self, name: str, narrow: bool):
        module, out, width = DOORS[name]
        out, width = (64, 64) if narrow else (out, width)
        super().__init__(width, 0)
        weight = torch.randn(out, width, generator=torch.Generator().manual_seed(0)) * width**-0.5
        self._weights = {f"diffusion_model.{module}.weight": weight}
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
    parser.add_argument("--smoke", action="store_true", help="narrow matrices, two names")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows("doors_smoke" if args.smoke else "doors", ("model", "names"), fresh=args.smoke)
    for name in ["SD 1.5", *(list(DOORS)[:1] if args.smoke else DOORS)]:
        model: Any = (
            denoiser("sd15", args.smoke, 64, torch.float32, Budget(), reader=MixedText)
            if name == "SD 1.5"
            else Door(name, args.smoke)
        )
        for n in [2] if args.smoke else args.numbers:
            if not rows.has({"model": name, "names": n}):
                rows.add({"model": name, "names": n, **opted_out(model, n), "machine": common.machine()})
                common.log.info("%s", rows.rows[-1])
    common.show(rows.path.stem, common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
