"""What one training step on Flux.1 at 1024 pixels takes in memory, by diffusers' network. memory_node.py asks the node.

    python benchmarks/memory_flux.py
    python benchmarks/memory_flux.py --smoke    # two blocks of each kind, small pictures

diffusers' transformer at its true sizes is walked through with tensors that have sizes only (eraser_core/estimate.py), under
this program's own denoiser, with low-rank changes of its own: KPOP at batch 1 with a retained prompt beside the concept's,
512 tokens of T5. Text encoders and autoencoder are not in memory. "fp8" is computed too: the weights in one byte each,
and the largest layer once more in bf16, as layers are converted one by one. A row a (preset, what is tuned, held in).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import common
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from eraser_core.backends.diffusers import Budget, DiffusersDenoiser
from eraser_core.backends.stored_model import BUDGETS
from eraser_core.backends.wiring import PREFIX
from eraser_core.denoiser import Context
from eraser_core.edits import make_edit
from eraser_core.estimate import GB
from eraser_core.memory_tracker import Tracker, take_step

COLUMNS = ("model", "preset", "tune", "precision", "side", "weights_gb", "trained_gb", "peak_gb", "how")
TOKENS, K, RANK, PATCH = 512, 10, 16, 2
TO = ("to_q", "to_k", "to_v")
ATTENTION = (
    ("double_blocks.{}.img_attn", "transformer_blocks", TO),
    ("double_blocks.{}.txt_attn", "transformer_blocks", ("add_q_proj", "add_k_proj", "add_v_proj")),
    ("single_blocks.{}.linear1", "single_transformer_blocks", TO),
)


class FluxSizes:
    """Flux.1 behind `DiffusersDenoiser`, for sizes alone. Its text door has the host's name, what attention reads with begins as there."""

    def __init__(self, transformer: FluxTransformer2DModel, side: int):
        self.network = transformer
        self.latent_shape = (16, side, side)
        self.names: dict[str, tuple[str, ...]] = {PREFIX + "txt_in.weight": ("context_embedder.weight",)}
        for host, stack, parts in ATTENTION:
            for i in range(len(getattr(transformer, stack))):
                own = {
                    f"{PREFIX}{host.format(i)}.{part}.weight": (f"{stack}.{i}.attn.{part}.weight",) for part in parts
                }
                self.names |= own

    def blocks(self) -> Mapping[str, nn.Module]:
        stacks = ("transformer_blocks", "single_transformer_blocks")
        return {f"{stack}.{i}": block for stack in stacks for i, block in enumerate(getattr(self.network, stack))}

    def file_name(self, key: str) -> str:
        return key

    def call(self, z_t: Tensor, t: Tensor, context: Context) -> tuple[tuple[Any, ...], dict[str, Any]]:
        b, c, h, w = z_t.shape
        patches = (
            z_t.view(b, c, h // PATCH, PATCH, w // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * PATCH**2)
        )
        words = {
            "hidden_states": patches,
            "encoder_hidden_states": context.tokens.to(z_t.dtype),
            "pooled_projections": torch.zeros(b, 768, dtype=z_t.dtype),
            "timestep": t.to(z_t.dtype),
            "img_ids": torch.zeros(patches.shape[1], 3),
            "txt_ids": torch.zeros(context.tokens.shape[1], 3),
            "guidance": torch.zeros(b),
            "return_dict": False,
        }
        return (), words

    def native(self, out: Tensor) -> Tensor:
        return out

    def as_read(self, tokens: Tensor) -> Tensor:
        return tokens


def step(preset: str, tune: Any, dtype: torch.dtype, side: int, blocks: Mapping[str, int]) -> tuple[int, int, int, int]:
    """Bytes: weights, the edit with gradient and Adam's moments, the peak, and the largest layer."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True, **blocks)
    budget: Budget = BUDGETS[preset]
    with FakeTensorMode(allow_non_fake_inputs=True), Tracker() as tracker, torch.enable_grad():
        for module in transformer.modules():
            for name, parameter in module.named_parameters(recurse=False):
                module._parameters[name] = nn.Parameter(torch.empty(parameter.shape, dtype=dtype), requires_grad=False)
        text: Any = SimpleNamespace(tokens_per_chunk=TOKENS, release=lambda: None)
        schedule: Any = SimpleNamespace(prediction="flow")
        wired: Any = FluxSizes(transformer, side)
        denoiser = DiffusersDenoiser("flux1", wired, text, text, schedule, base_hash="", budget=budget)
        weights = tracker.alive
        edit = make_edit(denoiser, tune, RANK, torch.Generator().manual_seed(0))
        given = ((rows, TOKENS + more) for rows, more in ((2, 0), (1, K)))
        inputs = (
            (torch.zeros(n, 16, side, side), torch.zeros(n), Context(torch.zeros(n, tokens, 4096)))
            for n, tokens in given
        )
        take_step(denoiser, edit, 2, inputs)
        trained = 4 * sum(p.numel() * p.element_size() for p in edit.parameters())
        largest = max(p.numel() * p.element_size() for p in transformer.parameters())
        return weights, trained, tracker.peak, largest


def main() -> int:
    """A row a (preset, tune, precision)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two blocks of each kind, small pictures")
    args = parser.parse_args()
    common.start_logging()
    rows = common.Rows(
        "memory_flux_smoke" if args.smoke else "memory_flux", ("preset", "tune", "precision"), fresh=True
    )
    blocks, side = ({"num_layers": 2, "num_single_layers": 2}, 16) if args.smoke else ({}, 128)
    for preset in ("normal", "low"):
        for tune in ("xattn-kv", "xattn"):
            weights, trained, peak, largest = step(preset, tune, torch.bfloat16, side, blocks)
            for held, saved in (("bfloat16", 0), ("float8", weights // 2 - largest)):
                rows.add(
                    {
                        "model": "Flux.1",
                        "preset": preset,
                        "tune": tune,
                        "precision": held,
                        "side": side,
                        "weights_gb": (weights // 2 if saved else weights) / GB,
                        "trained_gb": trained / GB,
                        "peak_gb": (peak - saved) / GB,
                        "how": "computed from tensor sizes",
                    }
                )
    common.show(rows.path.stem, common.table(rows.rows, COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
