"""What the node hands on is what the stock loader makes of its file, and what the engine makes of the same request."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from eraser_core.backends.pocket import load_pocket_denoiser
from eraser_core.edits import DenseEdit
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.hidden_prompt import extend


@pytest.fixture(scope="module")
def checkpoint(comfy: ModuleType, pack: ModuleType) -> tuple[Any, Any, Any]:
    with torch.inference_mode():
        return comfy.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")


@pytest.fixture(scope="module")
def denoiser(checkpoint: tuple[Any, Any, Any]) -> Any:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    return HostDenoiser(checkpoint[0], checkpoint[1], 64, 64)


def example(denoiser: Any, rank: int) -> Erasure:
    """An erasure with values in every kind of entry."""
    from eraser_core.edits import make_edit

    generator = torch.Generator().manual_seed(0)
    edit = make_edit(denoiser, "noxattn", rank, generator)
    with torch.no_grad():
        for parameter in edit.parameters():
            parameter.copy_(0.01 * torch.randn(parameter.shape, generator=generator))
    entries = edit.entries()
    names = denoiser.file_names()
    modules = {key.rpartition(".")[0] for key in entries}
    return Erasure(entries, {m: names[m] for m in modules}, denoiser.family, denoiser.base_hash, {}).to(torch.float16)


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_stock_loader_patches_the_same_weights_bit_for_bit(
    comfy: ModuleType, denoiser: Any, checkpoint: tuple[Any, Any, Any], tmp_path: Path, rank: int, strength: float
) -> None:
    import folder_paths
    from comfy.lora import calculate_weight
    from concept_eraser_pack.nodes.host import model as host_model

    erasure = example(denoiser, rank)
    folder = Path(folder_paths.get_folder_paths("loras")[0])
    folder.mkdir(parents=True, exist_ok=True)
    erasure.save(folder / "parity.safetensors")
    model = checkpoint[0]
    with torch.inference_mode():
        stock = comfy.LoraLoaderModelOnly().load_lora_model_only(model, "parity.safetensors", strength)[0]
        ours = host_model.apply_erasure(model, load_erasure(folder / "parity.safetensors"), strength, "test")
        assert stock.patches.keys() == ours.patches.keys() == set(erasure.entries)
        for key in erasure.entries:
            weight = model.get_key_patches(key)[key][0][0]
            theirs, own = (calculate_weight(m.patches[key], weight.float().clone(), key) for m in (stock, ours))
            assert torch.equal(theirs, own), key
            assert not torch.equal(own, weight.float()), key


def test_five_plain_gradient_steps_give_the_engines_erasure(denoiser: Any, pocket_file: Path) -> None:
    found = []
    for d in (denoiser, load_pocket_denoiser(pocket_file)):
        with torch.inference_mode(False), torch.enable_grad():
            found.append(five_steps(d))
    ours, theirs = (torch.cat([p.flatten() for p in parameters]) for parameters in found)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-3
    assert float(theirs.norm()) > 1e-3


def five_steps(d: Any) -> list[torch.Tensor]:
    """Eq. 8 of the slides on given z_t, t and p."""
    generator = torch.Generator().manual_seed(5)
    c_e, c_n, p = d.encode(["a church"]), d.encode(["a castle"]), torch.randn((1, 4, 192), generator=generator)
    edit = DenseEdit(d.weights("xattn-kv"))
    optimizer = torch.optim.SGD(edit.parameters(), lr=1.0)
    for t in (100, 300, 500, 700, 900):
        z_t, step = torch.randn((1, 8, 8, 8), generator=generator), torch.tensor([t])
        with torch.no_grad():
            neutral, erased = d.predict(z_t, step, c_n), d.predict(z_t, step, c_e)
        removed = (d.predict(z_t, step, c_e, edit) - neutral).square().mean()
        kept = (
            (d.predict(z_t, step, extend(c_e, p, "concatenative", d.tokens_per_chunk), edit) - erased).square().mean()
        )
        optimizer.zero_grad()
        (removed + 0.3 * kept).backward()
        optimizer.step()
    return [parameter.detach() for parameter in edit.parameters()]


def test_an_erasure_of_another_family_or_shape_is_refused(denoiser: Any, checkpoint: tuple[Any, Any, Any]) -> None:
    from dataclasses import replace

    from concept_eraser_pack.nodes.host import model as host_model

    from eraser_core.erasure import Dense
    from eraser_core.errors import RequestError

    erasure = example(denoiser, 3)
    key = next(iter(erasure.entries))
    for wrong in (
        replace(erasure, family="sdxl"),
        replace(erasure, entries={**erasure.entries, key: Dense(torch.zeros(3, 3))}),
        replace(erasure, entries={"diffusion_model.nowhere.weight": Dense(torch.zeros(3, 3))}),
    ):
        with torch.inference_mode(), pytest.raises(RequestError, match="use it with the model it was made for"):
            host_model.apply_erasure(checkpoint[0], wrong, 1.0, "test")


def test_erasures_stack_and_the_model_says_which_it_carries(denoiser: Any, checkpoint: tuple[Any, Any, Any]) -> None:
    from concept_eraser_pack.nodes.host import model as host_model

    model = checkpoint[0]
    with torch.inference_mode():
        once = host_model.apply_erasure(model, example(denoiser, 3), 1.0, "first")
        twice = host_model.apply_erasure(once, example(denoiser, 0), 0.5, "second")
        assert host_model.apply_erasure(model, example(denoiser, 3), 0.0, "none") is model
    assert [r.source for r in host_model.carried(twice)] == ["first", "second"]
    assert [r.source for r in host_model.carried(once)] == ["first"]
    assert host_model.carried(model) == []
    assert all(len(patches) >= 1 for patches in twice.patches.values())


def test_the_estimate_grows_with_what_is_asked_and_refuses_what_does_not_fit(
    denoiser: Any, checkpoint: tuple[Any, Any, Any]
) -> None:
    from concept_eraser_pack.nodes.host import estimate
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    from eraser_core.errors import RequestError
    from eraser_core.methods.kpop import KPOP, KPOPSettings
    from eraser_core.request import Request, Target

    settings = KPOPSettings(batch=4, rank=0, retain_weight=1.0)
    one = Request((Target("0", "cat"),), ("a house",))
    ten = Request(tuple(Target(str(i), "cat") for i in range(10)), ("a house",))

    def need(batch: int, rank: int, scale: float = 1.0, request: Request = one, of: Any = denoiser) -> float:
        found = estimate.need(of, settings, KPOP, request, estimate.Plan(batch, rank, scale))
        assert found is not None
        return found

    with torch.inference_mode(False), torch.enable_grad():
        denoiser.load()
        asked, fits = need(4, 0), need(1, 0)
        assert need(8, 0) > asked > need(4, 4) > 0
        large = HostDenoiser(checkpoint[0], checkpoint[1], 128, 128)
        assert need(4, 0, of=large) > need(4, 0, 0.5, of=large) == pytest.approx(asked, rel=0.01)
        # nine pools more, of z_t and two targets each, and nine concepts' texts with their anchors'
        pools = 9 * settings.pool_size * 3 * math.prod(denoiser.latent_shape) * 4
        texts = 9 * 2 * denoiser.encode([""]).tokens.numel() * 4
        assert need(4, 0, request=ten) - asked == pytest.approx(estimate.SAFETY * (pools + texts))
        assert estimate.seconds(denoiser, settings, 3, one) > 0
        estimate.check(denoiser, settings, KPOP, one, asked, 1e12)
        with pytest.raises(RequestError, match=r"it fits with batch 1, width 64, height 64"):
            estimate.check(denoiser, settings, KPOP, one, asked, fits)
        with pytest.raises(RequestError, match="even small settings do not fit"):
            estimate.check(denoiser, settings, KPOP, one, asked, 1.0)
