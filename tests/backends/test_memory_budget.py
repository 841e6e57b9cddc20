"""Less memory, the same numbers: recomputed activations, rows in turn, half-precision weights under fp32 edits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_checkpoints import UNETS, write_checkpoint
from torch.utils.checkpoint import CheckpointError

from eraser_core.backends import diffusers as backend
from eraser_core.backends.diffusers import Budget, DiffusersDenoiser
from eraser_core.backends.find import find_model
from eraser_core.backends.stored_model import Loading, read
from eraser_core.denoiser import Context, NoiseSchedule
from eraser_core.edits import make_edit


class FixedText:
    """Contexts of the tiny SD1.x without a text encoder."""

    tokens_per_chunk = 77

    def encode(self, prompts):
        return Context(
            torch.stack([torch.randn(77, 64, generator=torch.Generator().manual_seed(len(p))) for p in prompts])
        )

    def encode_start(self, prompts, n):
        return self.encode(prompts).tokens[:, :n]

    def token_count(self, prompt):
        return 2

    def release(self):
        pass


def denoiser(budget: Budget | None = None, dtype: torch.dtype = torch.float32) -> DiffusersDenoiser:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**UNETS["sd1"]).to(dtype)
    return DiffusersDenoiser("sd1", unet, FixedText(), None, NoiseSchedule.scaled_linear(), base_hash="", budget=budget)


def gradients(d: DiffusersDenoiser, tune: str, rank: int, size: float = 1 / 256) -> list[torch.Tensor]:
    """Of an edit that is not the identity, and of the context, through two forwards alive at once.

    `size` is that of a loss's derivative by each number of the predictions: 1 / n for a mean over n of them.
    """
    generator = torch.Generator().manual_seed(1)
    edit = make_edit(d, tune, rank, generator)
    with torch.no_grad():
        for p in edit.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    z, t = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([100, 800])
    one, two = d.encode(["a", "bb"]), d.encode(["ccc", "dddd"])
    p = torch.zeros(1, 1, 64, requires_grad=True)
    directions = size * torch.randn(2, 2, 4, 8, 8, generator=generator)
    first = d.predict(z, t, one.with_tokens(one.tokens + p), edit)
    second = d.predict(z, t, two, edit)
    loss = (first * directions[0]).sum() + (second * directions[1]).sum()
    return list(torch.autograd.grad(loss, [*edit.parameters(), p]))


@pytest.mark.parametrize(("tune", "rank"), [("xattn-kv", 0), ("xattn-kv", 2), ("noxattn", 2), ("text", 2)])
def test_recomputing_gives_the_same_gradients(tune: str, rank: int) -> None:
    plain, recomputed = (gradients(denoiser(budget), tune, rank) for budget in (None, Budget(recompute=True)))
    for a, b in zip(plain, recomputed, strict=True):
        assert torch.equal(a, b)
    assert all(float(g.abs().max()) > 0 for g in plain)


def test_diffusers_own_recomputing_would_not() -> None:
    d = denoiser()
    d.network.enable_gradient_checkpointing()
    with pytest.raises(CheckpointError):
        gradients(d, "xattn-kv", 0)


def test_recomputing_keeps_less_for_the_backward() -> None:
    def kept(d: DiffusersDenoiser) -> int:
        edit, seen = make_edit(d, "xattn-kv", 2, torch.Generator().manual_seed(0)), {}

        def pack(x: torch.Tensor) -> torch.Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        for p in d.all_weights().values():
            seen[p.untyped_storage().data_ptr()] = 0
        frozen = set(seen)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            d.predict(torch.zeros(1, 4, 8, 8), torch.tensor([5]), d.encode(["a"]), edit)
        return sum(n for at, n in seen.items() if at not in frozen)

    assert kept(denoiser(Budget(recompute=True))) < 0.3 * kept(denoiser())


def test_rows_in_turn_are_the_rows_at_once() -> None:
    z, t = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(5) * 200
    found = []
    for budget in (None, Budget(rows_at_once=2)):
        d = denoiser(budget)
        with torch.no_grad():
            found.append(d.predict(z, t, d.encode(["a", "bb", "ccc", "dddd", "eeeee"])))
        assert (d.rows.no_grad, d.rows.grad) == (5, 0)
    assert torch.allclose(*found, atol=1e-5)


def closeness(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    a, b = (torch.cat([x.flatten().double() for x in xs]) for xs in (one, two))
    return float(torch.cosine_similarity(a, b, 0))


@pytest.mark.parametrize("budget", [None, Budget(recompute=True)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_edits_train_in_fp32_on_half_precision_weights(dtype: torch.dtype, budget: Budget | None) -> None:
    """The network's own numbers are rounded in both, so what is left is what computing in half costs."""
    half, rounded = denoiser(budget, dtype), denoiser()
    rounded.network.load_state_dict({n: p.float() for n, p in half.network.state_dict().items()})
    got, wanted = gradients(half, "xattn-kv", 2), gradients(rounded, "xattn-kv", 2)
    assert all(g.dtype == torch.float32 for g in got)
    assert closeness(got, wanted) > (0.999 if dtype == torch.float16 else 0.99)


def test_without_the_gain_fp16_loses_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size that a student near its teacher has on true latents: errors of 0.01, a mean over n numbers."""
    n = 4 * 64 * 64
    rounded = denoiser()
    rounded.network.half().float()
    right = gradients(rounded, "xattn-kv", 2, 0.02 / n)
    kept = {}
    for gain in (n, 1):
        monkeypatch.setattr(backend, "fp16_gain", lambda z, gain=gain: gain)
        kept[gain] = closeness(gradients(denoiser(dtype=torch.float16), "xattn-kv", 2, 0.02 / n), right)
    assert kept[n] > 0.999 > 0.9 > kept[1]


def test_presets_differ_in_memory_not_in_what_is_trained(tmp_path: Path) -> None:
    path = str(write_checkpoint(tmp_path / "m.safetensors", "sdxl", dtype=torch.float16))
    found = []
    for memory in ("normal", "low"):
        loading = Loading(size=64, memory=memory)  # type: ignore[arg-type]
        d = read(find_model(path, loading), loading)
        assert next(iter(d.all_weights().values())).dtype == torch.float32  # on a CPU
        edit = make_edit(d, "xattn-kv", 2, torch.Generator().manual_seed(0))
        z, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
        out = d.predict(z, t, d.encode(["a church"]), edit).square().mean()
        found.append(torch.autograd.grad(out, edit.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
