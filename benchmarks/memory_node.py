"""What *Train Concept Eraser* says that it needs on Stable Diffusion's true UNets in a real ComfyUI, each memory preset.

    python benchmarks/memory_node.py               # SD1.5 at 512 and SDXL at 1024: 12 GB of main memory, two minutes
    python benchmarks/memory_node.py --only sd1

KPOP at batch 1 with a retain set, fp16 weights with random values. Nothing is trained: a step is walked through with tensors that
have sizes only (nodes/host/estimate.py), as the node does. "normal" computes in bf16 from a converted copy, "low" in fp16, as the
node chooses for an fp16 model on a GPU. `need_gb` is beside the UNet (and has the estimate's safety of 15 %), `total_gb` with it.
Needs the test host (python scripts/comfyui_host.py install).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import common
import torch

from eraser_core.estimate import GB
from eraser_core.methods import METHODS
from eraser_core.request import Request, Target

HOST = Path(__file__).resolve().parents[1] / "tests" / "host"
SIZES = {"sd1": 512, "sdxl": 1024}
KEY = ("model", "size", "rank", "preset")
COLUMNS = (*KEY, "compute", "weights_gb", "need_gb", "total_gb", "seconds")
REQUEST = Request((Target("a church", "a castle"),), ("a dog",))
PRESETS: tuple[tuple[Literal["normal", "low"], Literal["bf16", "fp16"]], ...] = (("normal", "bf16"), ("low", "fp16"))


def needed(name: str, model: Any, clip: Any, preset: Literal["normal", "low"], compute: Any) -> common.Row:
    """One preset of one model."""
    from concept_eraser_pack.nodes.host import estimate
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    kpop = METHODS["kpop"]
    denoiser = HostDenoiser(model, clip, SIZES[name], SIZES[name], compute)
    denoiser.use(preset)
    settings = kpop.configure(denoiser.family, {})
    rank = settings.rank
    found, seconds = common.timed(
        lambda: estimate.need(denoiser, settings, kpop.learner, REQUEST, estimate.Plan(1, rank))
    )
    held = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in denoiser.frozen()}
    weights = sum(held.values())
    named = {"model": name, "size": SIZES[name], "rank": rank, "preset": preset, "compute": compute}
    return {
        **named,
        "weights_gb": weights / GB,
        "need_gb": found / GB,
        "total_gb": (weights + found) / GB,
        "seconds": round(seconds),
    }


def main() -> int:
    """All rows, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(SIZES), help="one model")
    args = parser.parse_args()
    common.start_logging()
    sys.path[:0] = [str(HOST.parents[1]), str(HOST)]
    import big_model
    import in_process

    in_process.load_host(Path(tempfile.mkdtemp()))
    in_process.load_pack()
    rows = common.Rows("memory_node", KEY, fresh=True)
    for name in [args.only] if args.only else SIZES:
        with torch.inference_mode():
            model, clip = big_model.build(name, "cpu", torch.float16)
        with torch.inference_mode(False), torch.enable_grad():
            for preset, compute in PRESETS:
                rows.add(needed(name, model, clip, preset, compute))
        del model, clip
    sys.stdout.write(common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
