"""What *Train Concept Eraser* says that it needs on networks of true sizes in a real ComfyUI, each memory preset.

    python benchmarks/memory_node.py               # SD1.5 at 512 and SDXL at 1024: 12 GB of main memory, two minutes
    python benchmarks/memory_node.py --only flux1 z-image --name memory_transformers    # at 1024

KPOP at batch 1 with a retain set, fp16 weights with random values. Nothing is trained: a step is walked through with tensors that
have sizes only (nodes/host/estimate.py), as the node does. "normal" computes in bf16 from a converted copy, "low" in fp16, as the
node chooses for an fp16 model on a GPU. Transformers compute in bf16; their text states are narrow, which leaves out a hundredth
of a GB, and their weights are never set, so that they take no memory here. `need_gb` is beside the UNet (and has the estimate's safety of 15 %), `total_gb` with it.
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
SIZES = {"sd1": 512, "sdxl": 1024, "flux1": 1024, "z-image": 1024}
UNETS = ("sd1", "sdxl")
KEY = ("model", "size", "rank", "preset", "precision")
COLUMNS = (*KEY, "compute", "weights_gb", "need_gb", "total_gb", "seconds")
REQUEST = Request((Target("a church", "a castle"),), ("a dog",))
PRESETS: tuple[tuple[Literal["normal", "low"], Literal["bf16", "fp16"]], ...] = (("normal", "bf16"), ("low", "fp16"))
WIDE = {
    "flux1": {"hidden_size": 3072, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56]},
    "z-image": {
        "dim": 3840,
        "n_heads": 30,
        "n_kv_heads": 30,
        "n_layers": 30,
        "n_refiner_layers": 2,
        "axes_dims": [32, 48, 48],
        "ffn_dim_multiplier": 8 / 3,
    },
}
HELD = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}


def needed(name: str, held: str, model: Any, clip: Any, preset: Literal["normal", "low"], compute: Any) -> common.Row:
    """One preset of one model, whose weights are of the precision `held`."""
    from concept_eraser_pack.nodes.host import estimate
    from concept_eraser_pack.nodes.host.transformer import denoiser_for

    kpop = METHODS["kpop"]
    denoiser = denoiser_for(model, clip, SIZES[name], SIZES[name], compute)
    denoiser.use(preset)
    settings = kpop.configure(denoiser.family, {})
    rank = settings.rank
    found, seconds = common.timed(
        lambda: estimate.need(denoiser, settings, kpop.learner, REQUEST, estimate.Plan(1, rank))
    )
    kept = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in denoiser.frozen()}
    weights = sum(kept.values())
    named = {"model": name, "size": SIZES[name], "rank": rank, "preset": preset, "precision": held, "compute": compute}
    return {
        **named,
        "weights_gb": weights / GB,
        "need_gb": found / GB,
        "total_gb": (weights + found) / GB,
        "seconds": round(seconds),
    }


def unets(name: str, rows: common.Rows) -> None:
    """Rows of one of Stable Diffusion's, whose weights are set."""
    import big_model

    with torch.inference_mode():
        model, clip = big_model.build(name, "cpu", torch.float16)
    with torch.inference_mode(False), torch.enable_grad():
        for preset, compute in PRESETS:
            rows.add(needed(name, "fp16", model, clip, preset, compute))


def transformers(name: str, rows: common.Rows) -> None:
    """Rows of a transformer. "normal" on fp8 would hold a copy in bf16 beside it: it is bf16's and the fp8 file."""
    import narrow_transformers

    clip = narrow_transformers.clip_of(name)
    for held, dtype in HELD.items():
        with torch.inference_mode(False), torch.enable_grad():  # a loader's tensors would be copied
            model = narrow_transformers.model_of(name, WIDE[name], "unset", dtype)
            for preset, _ in PRESETS if held == "bf16" else PRESETS[1:]:
                rows.add(needed(name, held, model, clip, preset, "bf16"))
        del model


def main() -> int:
    """All rows, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=tuple(SIZES), default=UNETS, help="some models")
    parser.add_argument("--name", default="memory_node", help="name of the JSON file")
    args = parser.parse_args()
    common.start_logging()
    sys.path[:0] = [str(HOST.parents[1]), str(HOST)]
    import in_process

    in_process.load_host(Path(tempfile.mkdtemp()))
    in_process.load_pack()
    rows = common.Rows(args.name, KEY, fresh=True)
    for name in args.only:
        (unets if name in UNETS else transformers)(name, rows)
    sys.stdout.write(common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
