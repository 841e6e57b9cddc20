"""Pack the flow-matching transformer beside the first model's text encoder and autoencoder: fp16, ComfyUI's names.

    python scripts/pocket/pack_flow.py --work out/pocket

Reads ``flow.ckpt`` (its EMA weights; a training in progress will do) and the shipped ``pocket.safetensors``; writes
``checkpoint/pocket_flow.safetensors`` and ``checkpoint/pocket_flow.json``.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import common
import torch
from flow_network import CONFIG, TIME_SCALE, FlowNetwork
from pack import METADATA, sha256, tensor_sha256, write_tensors
from safetensors.torch import load_file
from torch import Tensor

from eraser_core.backends.lumina import host_names
from eraser_core.model_spec import POCKET_FLOW
from eraser_core.pocket.model import FLOW_WEIGHTS, FOLDER, UNET_PREFIX, WEIGHTS

log = logging.getLogger("pocket.pack_flow")

SHIFT = 1.0
FLOW_METADATA = METADATA | {
    "modelspec.architecture": POCKET_FLOW,
    "modelspec.title": "ConceptEraser pocket model, flow matching",
    "modelspec.prediction_type": "flow",
}


def tensors_of(average: dict[str, Tensor], first: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint's tensors under ComfyUI's keys, fp16."""
    network = FlowNetwork()
    out = {key: tensor for key, tensor in first.items() if not key.startswith(UNET_PREFIX)}
    for host, own in host_names(network, CONFIG).items():
        out[UNET_PREFIX + host] = torch.cat([average[name] for name in own])
    out[UNET_PREFIX + "norm_final.weight"] = torch.ones(CONFIG["hidden_size"])  # the host has it and does not use it
    half = {key: tensor.detach().half().contiguous() for key, tensor in sorted(out.items())}
    for key, tensor in half.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{key} does not fit fp16")
    return half


def facts_of(state: dict[str, Any], args: argparse.Namespace, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """All of pocket_flow.json: what the first model says of the parts that both have, and the transformer's own."""
    first = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    shared = ("text_encoder", "autoencoder", "vocabulary", "latents")
    training = {name: state[name] for name in ("seen", "planned", "seed", "precision")}
    training["hours"] = round(state["hours"], 3)
    weights = args.out / FLOW_WEIGHTS.relative_to(FOLDER)
    return {
        "about": "The second pocket model: configurations of the modules in pocket_flow.safetensors, and the settings its figures are for.",
        "transformer": {**CONFIG, "axes_lens": [512, 32, 32]},  # places, not weights: room for hidden prompts
        **{name: first[name] for name in shared},
        "schedule": {"shift": SHIFT, "num_train_timesteps": 1000, "time_scale": TIME_SCALE},
        "sampling": {"sampler": "euler", "guidance": args.guidance, "steps": args.steps, "size": 64},
        "training": {"transformer": training, "autoencoder": first["training"]["autoencoder"]},
        "sha256": {weights.name: sha256(weights)},
        "tensor_sha256": tensor_sha256(tensors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pocket"))
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--guidance", type=float, default=3.0, help="until evaluate.py --sweep chooses")
    parser.add_argument("--steps", type=int, default=16)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    state = common.load_checkpoint(args.work / "flow.ckpt", "cpu")
    if state is None:
        raise SystemExit(f"{args.work / 'flow.ckpt'} is missing: run train_flow.py first")
    weights = args.out / FLOW_WEIGHTS.relative_to(FOLDER)
    weights.parent.mkdir(parents=True, exist_ok=True)
    tensors = tensors_of(state["ema"], load_file(WEIGHTS))
    write_tensors(tensors, weights, FLOW_METADATA)
    common.write_json(weights.with_suffix(".json"), facts_of(state, args, tensors))
    log.info("%d of %d images seen, %.1f MB", state["seen"], state["planned"], weights.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
