"""Small prompts in the API format, for the tests of the running server."""

from __future__ import annotations

from typing import Any

Prompt = dict[str, dict[str, Any]]
Link = list[Any]
POCKET = "pocket.safetensors"


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    """One node; a link is [node id, output number]."""
    return {"class_type": kind, "inputs": inputs}


def checkpoint(name: str = POCKET) -> Prompt:
    """Node "ckpt": MODEL, CLIP, VAE."""
    return {"ckpt": node("CheckpointLoaderSimple", ckpt_name=name)}


def core_lora(lora: Link) -> dict[str, Any]:
    """The host's own node that puts a LORA_MODEL on the checkpoint; newer hosts require `bypass`, older ones ignore it."""
    return node("LoraModelLoader", model=["ckpt", 0], lora=lora, strength_model=1.0, bypass=False)


def picture(
    name: str,
    prompt: str,
    model: Link | None = None,
    *,
    clip: Link | None = None,
    positive: Link | None = None,
    negative: Link | None = None,
    steps: int = 4,
    seed: int = 1,
    batch: int = 1,
    cfg: float = 3.0,
) -> Prompt:
    """Nodes that draw a prompt and save it under "<name>"; `positive` and `negative` replace the text's conditionings.

    The conditionings are "<name>.pos" and "<name>.neg", the IMAGE is ["<name>.decoded", 0].
    """
    clip = clip or ["ckpt", 1]
    return {
        f"{name}.pos": node("CLIPTextEncode", text=prompt, clip=clip),
        f"{name}.neg": node("CLIPTextEncode", text="", clip=clip),
        f"{name}.latent": node("EmptyLatentImage", width=64, height=64, batch_size=batch),
        f"{name}.sampled": node(
            "KSampler",
            model=model or ["ckpt", 0],
            positive=positive or [f"{name}.pos", 0],
            negative=negative or [f"{name}.neg", 0],
            latent_image=[f"{name}.latent", 0],
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name="ddim",
            scheduler="ddim_uniform",
            denoise=1.0,
        ),
        f"{name}.decoded": node("VAEDecode", samples=[f"{name}.sampled", 0], vae=["ckpt", 2]),
        name: node("SaveImage", images=[f"{name}.decoded", 0], filename_prefix=f"test/{name}"),
    }
