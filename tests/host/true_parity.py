"""One checkpoint of a true architecture in both faces, each in a process of its own, one after the other.

    python tests/host/true_parity.py write sd1|sdxl FILE         # random weights, fp16, with text encoders
    python tests/host/true_parity.py engine|host FILE OUT [STEPS]

The last two write to OUT (safetensors) what their face makes of FILE: contexts of two prompts, native predictions on
given 16x16 latents, and a low-rank edit after some plain gradient steps. They print their peak memory in GB.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(Path(__file__).resolve().parent), str(REPO / "tests")]

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import Tensor  # noqa: E402

SIDE, RANK, VOCABULARY = 16, 4, 49408
PROMPTS = ("a church", "a photo of a small dog")
TEXTS: dict[str, dict[str, Any]] = {
    "first": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "second": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
}


def write(family: str, path: Path) -> None:
    """A checkpoint without a VAE, with the names and shapes of a real one."""
    from diffusers import UNet2DConditionModel
    from tiny_checkpoints import hugging_face, open_clip
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    from true_configs import CONFIGS

    from eraser_core.backends.ldm_keys import diffusers_to_ldm

    config = CONFIGS["sd15" if family == "sd1" else "sdxl"]
    generator = torch.Generator().manual_seed(0)

    def drawn(module: torch.nn.Module) -> torch.nn.Module:
        """The module with small random half-precision weights in place of none."""
        for owner in module.modules():
            for name, p in list(owner.named_parameters(recurse=False)):
                fan_in = p[0].numel() if p.dim() > 1 else 0
                values = torch.empty(p.shape).uniform_(-1, 1, generator=generator)
                values = (
                    values * (fan_in**-0.5)
                    if fan_in
                    else 0.05 * values + ("norm" in type(owner).__name__.lower() and name == "weight")
                )
                owner._parameters[name] = torch.nn.Parameter(values.half(), requires_grad=False)
        return module

    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        common = {"vocab_size": VOCABULARY, "max_position_embeddings": 77}
        first = CLIPTextModel(CLIPTextConfig(**common, **TEXTS["first"]))
        second = None
        if family == "sdxl":
            second = CLIPTextModelWithProjection(CLIPTextConfig(**common, **TEXTS["second"], projection_dim=1280))
    names = diffusers_to_ldm(config)
    tensors = {"model.diffusion_model." + names[n]: p.data for n, p in drawn(unet).named_parameters()}
    prefix = "cond_stage_model.transformer." if family == "sd1" else "conditioner.embedders.0.transformer."
    tensors |= {prefix + n: p.data for n, p in hugging_face(drawn(first)).items()}
    if second is not None:
        layers = {n: p.detach().contiguous() for n, p in open_clip(drawn(second), False).items()}
        tensors |= {"conditioner.embedders.1.model." + n: p for n, p in layers.items()}
    save_file(tensors, path)


def inputs() -> tuple[Tensor, Tensor]:
    """z_t and t of the prompts."""
    return torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(1)), torch.tensor([100, 900])


def found(d: Any, steps: int) -> Mapping[str, Tensor]:
    """What a face makes of the model."""
    from eraser_core.edits import LowRankEdit
    from eraser_core.hidden_prompt import extend

    z_t, t = inputs()
    context = d.encode(list(PROMPTS))
    out = {"tokens": context.tokens, "rank": torch.tensor(RANK)}
    if context.pooled is not None:
        out |= {"pooled": context.pooled, "sizes": context.size_ids}
    with torch.no_grad():
        out["prediction"] = torch.cat([d.predict(z_t[i : i + 1], t[i : i + 1], context[i : i + 1]) for i in range(2)])
    generator = torch.Generator().manual_seed(5)
    edit = LowRankEdit(dict(sorted(d.weights("xattn-kv").items())), RANK, generator)
    out["start"] = torch.cat([p.detach().flatten() for p in edit.parameters()])
    p = torch.randn((1, 4, context.tokens.shape[-1]), generator=generator)
    optimizer = torch.optim.SGD(edit.parameters(), lr=1.0)
    c_e, c_n = context[0:1], context[1:2]
    for at in (100, 300, 500, 700, 900)[:steps]:
        z, when = torch.randn((1, 4, SIDE, SIDE), generator=generator), torch.tensor([at])
        with torch.no_grad():
            neutral, erased = d.predict(z, when, c_n), d.predict(z, when, c_e)
        optimizer.zero_grad()
        (d.predict(z, when, c_e, edit) - neutral).square().mean().backward()
        reached = d.predict(z, when, extend(c_e, p, "concatenative", 77), edit)
        (0.3 * (reached - erased).square().mean()).backward()
        optimizer.step()
    out["trained"] = torch.cat([p.detach().flatten() for p in edit.parameters()])
    return {name: x.contiguous().cpu() for name, x in out.items()}


def engine(path: Path) -> Any:
    """The engine's reading of the file."""
    from eraser_core.backends.find import find_model
    from eraser_core.backends.stored_model import Loading, read

    loading = Loading(size=8 * SIDE)
    return read(find_model(str(path), loading), loading)


def host(path: Path) -> Any:
    """The host's stock loader's."""
    import in_process

    base = Path(tempfile.mkdtemp())
    nodes = in_process.load_host(base)
    in_process.load_pack()
    import folder_paths
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    folder_paths.add_model_folder_path("checkpoints", str(path.parent))
    with torch.inference_mode():
        model, clip, _ = nodes.CheckpointLoaderSimple().load_checkpoint(path.name)
    return HostDenoiser(model, clip, 8 * SIDE, 8 * SIDE, "fp32")


def main(face: str, *words: str) -> None:
    if face == "write":
        write(words[0], Path(words[1]))
        return
    with torch.inference_mode(False), torch.enable_grad():
        d = {"engine": engine, "host": host}[face](Path(words[0]))
        save_file(dict(found(d, int(words[2]) if len(words) > 2 else 5)), Path(words[1]))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
