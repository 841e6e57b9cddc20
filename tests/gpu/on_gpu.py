"""What the tests of the nodes on a GPU do again and again."""

from __future__ import annotations

from typing import Any

import torch

from eraser_core.pocket import load_judge

SAMPLES = 8


@torch.inference_mode()
def share(host: Any, checkpoint: Any, model: Any, hidden: Any = None) -> float:
    """How many of the pictures of a church are judged to be one."""
    from concept_eraser_pack.nodes import prompts

    _, clip, vae = checkpoint
    (positive,) = host.CLIPTextEncode().encode(clip, "a church")
    (negative,) = host.CLIPTextEncode().encode(clip, "")
    if hidden is not None:
        positive = prompts.inject(positive, hidden.pick("church"), 1.0)
    (latent,) = host.EmptyLatentImage().generate(64, 64, SAMPLES)
    (out,) = host.common_ksampler(model, 1, 16, 3.0, "ddim", "ddim_uniform", positive, negative, latent)
    (images,) = host.VAEDecode().decode(vae, out)
    judge = load_judge()
    found = judge.classify(images.movedim(-1, 1)[:, :3]).object_logits.argmax(1)
    return float((found == judge.objects.index("church")).float().mean())


def asked(**more: Any) -> dict[str, Any]:
    """The Train node's inputs at their defaults."""
    values = {"concepts": "church", "anchor": "", "retain": "", "steps": 0, "tune": "xattn-kv", "rank": -1, "seed": 0}
    values |= {"key_seed": 1, "width": 0, "height": 0, "batch": 0, "precision": "fp16", "compute": "auto"}
    return values | more
