"""Pack the trained parts into the shipped files: fp16, LDM key layout, at most 45 MB in all.

    python scripts/pocket/pack.py --work out/pocket

Reads ``unet.ckpt`` (its EMA weights; a training in progress will do), ``autoencoder.safetensors`` and ``judge.safetensors``; writes
``checkpoint/pocket.safetensors``, ``checkpoint/pocket.json``, ``judge.safetensors`` and ``judge.json``. Running it again gives the same tensors.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import common
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from train_unet import SCHEDULE

from eraser_core.pocket.concepts import load_concepts
from eraser_core.pocket.model import FOLDER, WEIGHTS, autoencoder_keys, build_modules, text_keys, unet_keys
from eraser_core.pocket.tokenizer import build_vocabulary

log = logging.getLogger("pocket.pack")

LIMIT = 45_000_000
METADATA = {
    "format": "pt",
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.architecture": "concepteraser-pocket",
    "modelspec.title": "ConceptEraser pocket model",
    "modelspec.implementation": "diffusers",
    "modelspec.prediction_type": "epsilon",
    "modelspec.resolution": "64x64",
    "modelspec.license": "Apache-2.0",
}


def tensors_of(state: dict[str, Any], autoencoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint's tensors under their LDM keys, fp16."""
    unet, text, empty = build_modules(state["config"])
    names = unet_keys(state["config"])
    out = {names[own]: state["ema"][f"unet.{own}"] for own, _ in unet.named_parameters()}
    out |= {key: state["ema"][f"text.{own}"] for own, key in text_keys(text).items()}
    out |= {key: autoencoder[own] for own, key in autoencoder_keys(empty).items()}
    half = {key: tensor.detach().half().contiguous() for key, tensor in sorted(out.items())}
    for key, tensor in half.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{key} does not fit fp16")
    return half


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A file that holds these tensors already stays: safetensors orders metadata at random, so writing again would change its hash."""
    if path.exists() and tensor_sha256(load_file(path)) == tensor_sha256(tensors):
        return
    beside = path.with_suffix(".tmp")
    save_file(tensors, beside, metadata)
    beside.replace(path)


def tensor_sha256(tensors: dict[str, Tensor]) -> str:
    """Over names and numbers alone: a safetensors file's own hash changes with the order of its metadata."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].numpy().tobytes())
    return digest.hexdigest()


def facts_of(
    state: dict[str, Any], args: argparse.Namespace, weights: Path, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """All of pocket.json."""
    vocabulary = build_vocabulary(load_concepts())
    if len(vocabulary) != state["config"]["text_encoder"]["vocab_size"]:
        raise ValueError("concepts.json has changed since the training: its vocabulary is another")
    autoencoder = json.loads((args.work / "autoencoder.json").read_text(encoding="utf-8"))
    training = {name: state[name] for name in ("seen", "planned", "seed", "precision")}
    training["hours"] = round(state["hours"], 3)
    return {
        "about": "The pocket model: configurations of the modules in pocket.safetensors, and the settings its figures are for.",
        **state["config"],
        "vocabulary": vocabulary,
        "schedule": vars(SCHEDULE),
        "latents": {"channels": 8, "factor": 8, "scaling_factor": 1.0},
        "sampling": {"sampler": "ddim", "guidance": args.guidance, "steps": args.steps, "size": 64},
        "training": {"unet": training, "autoencoder": autoencoder},
        "sha256": {"pocket.safetensors": sha256(weights)},
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
    weights = args.out / WEIGHTS.relative_to(FOLDER)
    weights.parent.mkdir(parents=True, exist_ok=True)
    state = common.load_checkpoint(args.work / "unet.ckpt", "cpu")
    if state is None:
        raise SystemExit(f"{args.work / 'unet.ckpt'} is missing: run train_unet.py first")
    tensors = tensors_of(state, load_file(args.work / "autoencoder.safetensors"))
    write_tensors(tensors, weights, METADATA)
    facts = facts_of(state, args, weights, tensors)
    before = weights.with_suffix(".json")
    if before.exists():
        old = json.loads(before.read_text(encoding="utf-8"))
        if old.get("tensor_sha256") == facts["tensor_sha256"]:  # the same model: what evaluate.py chose for it stays
            facts |= {key: old[key] for key in ("sampling", "sweep") if key in old}
    judge = args.work / "judge.safetensors"
    if judge.exists():
        metadata = {"format": "pt", "modelspec.title": "ConceptEraser pocket judge", "modelspec.license": "Apache-2.0"}
        write_tensors(load_file(judge), args.out / "judge.safetensors", metadata)
        common.write_json(args.out / "judge.json", json.loads(judge.with_suffix(".json").read_text(encoding="utf-8")))
        facts["sha256"]["judge.safetensors"] = sha256(args.out / "judge.safetensors")
    common.write_json(before, facts)
    size = sum(path.stat().st_size for path in args.out.rglob("*.safetensors"))
    log.info("%d of %d images seen, %.1f MB in all", state["seen"], state["planned"], size / 1e6)
    if size > LIMIT:
        raise SystemExit(f"{size} bytes are more than the {LIMIT} that may be shipped")


if __name__ == "__main__":
    main()
