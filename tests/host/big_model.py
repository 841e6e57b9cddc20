"""Two steps of training on a real SD1.5 or SDXL architecture with random weights, in a process of its own.

    python tests/host/big_model.py sd1|sdxl FOLDER          # fp32 on the CPU, latents 16x16
    python tests/host/big_model.py sd1|sdxl FOLDER cuda     # fp16 on a GPU, latents of the family's own size
    python tests/host/big_model.py sd1|sdxl FOLDER cuda low # with that memory preset

Prints the seconds of the training and the peak memory in GB: of the process, or on the GPU of what is allocated there
beside the model, with what the node had said it would need. On a GPU the model comes from a checkpoint file through the
host's own loader (written once into FOLDER), as users load it: hosts that stream weights need that.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(Path(__file__).resolve().parent)]
import in_process  # noqa: E402
import torch  # noqa: E402

from eraser_core.erasure import load_erasure  # noqa: E402

COMMON = {"image_size": 32, "out_channels": 4, "in_channels": 4, "model_channels": 320, "use_spatial_transformer": True}
COMMON |= {"legacy": False, "use_temporal_attention": False}
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {
        "adm_in_channels": None,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1,
        "use_linear_in_transformer": False,
        "context_dim": 768,
    },
    "sdxl": {
        "num_classes": "sequential",
        "adm_in_channels": 2816,
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "use_linear_in_transformer": True,
        "context_dim": 2048,
    },
}


def build(name: str) -> tuple[Any, Any]:
    """(MODEL, CLIP) of the family, random, fp32, on the CPU."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.supported_models

    kind = {"sd1": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}[name]
    config = kind({**COMMON, **UNETS[name]})
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    unet = config.get_model({}, "", device=cpu)
    randomise(unet.diffusion_model)
    clip = comfy.sd.CLIP(config.clip_target({}), parameters=100)
    randomise(clip.cond_stage_model)
    return comfy.model_patcher.ModelPatcher(unet, load_device=cpu, offload_device=cpu), clip


def load(name: str, folder: Path) -> tuple[Any, Any]:
    """(MODEL, CLIP) of a checkpoint file of true size in `folder`, fp16, by the host's loader."""
    import folder_paths
    import true_parity

    import nodes

    file = folder / f"{name}.safetensors"
    if not file.is_file():
        true_parity.write(name, file)
    folder_paths.add_model_folder_path("checkpoints", str(folder))
    model, clip, _ = nodes.CheckpointLoaderSimple().load_checkpoint(file.name)
    return model, clip


class Watch:
    """What the node said a training would need, and what it then allocated beside the model."""

    def __init__(self, run: Any):
        self.said, self.taken = 0.0, 0.0
        need, erase = run.estimate.need, run.erase

        def asked(*args: Any) -> Any:
            found = need(*args)
            self.said = found or 0.0
            return found

        def erased(*args: Any, **more: Any) -> Any:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            result = erase(*args, **more)
            self.taken = float(torch.cuda.max_memory_allocated() - before)
            return result

        run.estimate.need, run.erase = asked, erased


@torch.no_grad()
def randomise(module: torch.nn.Module) -> None:
    """The host's layers come uninitialised. Small uniform weights, norms of one, biases of zero."""
    for key, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.uniform_(-0.03, 0.03)
        else:
            parameter.fill_(1.0 if key.endswith("weight") else 0.0)  # a weight of one dimension is a norm's


def main(name: str, folder: Path, on: str, memory: str) -> None:
    """Train, save, apply, inject; every claim is an assertion."""
    in_process.load_host(folder, ["--cpu"] if on == "cpu" else [])
    in_process.load_pack()
    from concept_eraser_pack.nodes import prompts, train_run
    from concept_eraser_pack.nodes.host import model as host_model
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser
    from concept_eraser_pack.nodes.values import MethodChoice

    with torch.inference_mode():
        model, clip = build(name) if on == "cpu" else load(name, folder)
    watch = None if on == "cpu" else Watch(train_run)
    size = 128 if on == "cpu" else 0
    before = host_model.base_hash(host_model.weights(model))
    values = {"concepts": "church", "anchor": "castle", "retain": "house", "steps": 2, "tune": "xattn-kv", "rank": -1}
    values |= {
        "seed": 0,
        "key_seed": 1,
        "width": size,
        "height": size,
        "batch": 1,
        "precision": "fp16",
        "compute": "auto",
    }
    values |= {
        "memory": memory,
        "filename_prefix": "loras/big",
        "method": MethodChoice("kpop", {"latents": "fresh", "sampler_steps": 2}),
    }
    began = time.monotonic()
    with torch.inference_mode():  # as the host runs its nodes
        (sanitized, erasure, hidden, _, course), _ = train_run.train(model, clip, values, "")
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    assert len(course["loss"]) == 2 and min(course["loss"]) > 0, "random weights that never reach the output"
    assert host_model.base_hash(host_model.weights(model)) == before, "the user's weights were written to"
    saved = load_erasure(folder / "output" / "loras" / "big_00001_.safetensors")
    assert saved.hash() == erasure.hash()
    with torch.inference_mode():
        applied = host_model.apply_erasure(model, saved, 1.0, "test")
    assert applied.patches.keys() == sanitized.patches.keys()
    with torch.inference_mode(False), torch.no_grad():
        denoiser = HostDenoiser(applied, clip, 128, 128)
        context = denoiser.encode(["church"])
        options = {"pooled_output": context.pooled, "mask": "kept"}
        ((tokens, kept),) = prompts.inject([[context.tokens, options]], hidden.pick("church"), 1.0)
        assert tokens.shape[1] == context.tokens.shape[1] + len(hidden.pick("church").tokens) and kept == options
        z_t, t = torch.randn(1, *denoiser.latent_shape).to(on), torch.tensor([500]).to(on)
        plain, extended = (denoiser.predict(z_t, t, context.with_tokens(c)) for c in (context.tokens, tokens))
        assert plain.isfinite().all() and not torch.equal(plain, extended)
    if watch is None:
        print(f"{seconds:.0f} {peak:.1f}")
    else:
        print(f"{seconds:.0f} s, {watch.taken / 1e9:.2f} GB allocated beside the model, {watch.said / 1e9:.2f} GB said")
        assert watch.taken <= watch.said, "the node promised that it fits"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=tuple(UNETS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("on", nargs="?", default="cpu")
    parser.add_argument("memory", nargs="?", default="auto")
    main(**vars(parser.parse_args()))
