"""Training in less memory: activations computed again, and fp16 that loses no gradient, give the same numbers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from eraser_core.edits import make_edit
from eraser_core.memory_tracker import Tracker
from eraser_core.methods import METHODS
from eraser_core.methods.kpop import KPOP
from eraser_core.request import Request, Target

PROMPTS = ("a church", "a church in ink style", "")


@pytest.fixture(scope="module")
def checkpoint(comfy: ModuleType, pack: ModuleType) -> tuple[Any, Any, Any]:
    with torch.inference_mode():  # as the host runs its nodes
        return comfy.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")


@pytest.fixture
def denoiser(pack: ModuleType, checkpoint: tuple[Any, Any, Any]) -> Any:
    return made(checkpoint)


def made(checkpoint: tuple[Any, Any, Any], compute: str = "auto") -> Any:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser

    return HostDenoiser(checkpoint[0], checkpoint[1], 64, 64, compute)


def gradients(d: Any, tune: str = "xattn-kv", size: float = 1.0) -> list[torch.Tensor]:
    """Of an edit that is not the identity and of added tokens, through two forwards alive at once."""
    with torch.inference_mode(False), torch.enable_grad():
        generator = torch.Generator().manual_seed(1)
        edit = make_edit(d, tune, 2, generator)
        with torch.no_grad():
            for q in edit.parameters():
                q.add_(0.05 * torch.randn(q.shape, generator=generator))
        p = torch.zeros(1, 1, 192, requires_grad=True)
        z, t = torch.randn((3, 8, 8, 8), generator=generator), torch.tensor([1, 500, 999])
        context = d.encode(PROMPTS)
        outs = [d.predict(z, t, context.with_tokens(context.tokens + s * p), edit) for s in (1, 2)]
        direction = size * torch.randn(outs[0].shape, generator=generator)
        loss = (outs[0] * direction).sum() + outs[1].square().mean() * size
        return list(torch.autograd.grad(loss, [*edit.parameters(), p]))


def peak(d: Any, real: bool = False) -> float:
    """Bytes at the peak of a step beside the model: as estimated, or counted over real tensors."""
    from concept_eraser_pack.nodes.host import estimate

    settings = METHODS["kpop"].configure("pocket", {"pool_size": 4, "sampler_steps": 2, "batch": 1})
    request = Request((Target("a church", "a castle"),), ("a dog",))
    with torch.inference_mode(False), torch.enable_grad():
        d.load()
        if not real:
            return (estimate.need(d, settings, KPOP, request, estimate.Plan(1, 0)) or 0.0) / estimate.SAFETY
        learner = KPOP(d, request, settings, 0)
        learner.begin()
        learner.step(1)
        moments = [m for state in learner.optimizer.state.values() for m in state.values() if m.dim()]
        held = [*learner.edit.parameters(), *moments]  # there before, and longer than the step
        tracker = Tracker()
        for tensor in (*d.frozen(), *held):
            tracker.leave_out(tensor)
        with tracker:
            learner.step(2)
        return tracker.peak + 4 * sum(tensor.numel() for tensor in held)


@pytest.mark.parametrize("tune", ["xattn-kv", "xattn", "noxattn", "text"])
def test_recomputing_gives_the_same_gradients(denoiser: Any, tune: str) -> None:
    plain = gradients(denoiser, tune)
    denoiser.use("low")
    again = gradients(denoiser, tune)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert all(float(g.abs().max()) > 0 for g in plain)
    other = gradients(denoiser, tune, 2.0)
    assert not torch.equal(plain[0], other[0])  # the comparison can fail


@pytest.mark.parametrize("recompute", [False, True])
def test_the_estimate_is_a_real_steps_peak(denoiser: Any, recompute: bool) -> None:
    denoiser.use("low" if recompute else "normal")
    assert peak(denoiser) == pytest.approx(peak(denoiser, real=True), rel=0.05)


def test_recomputing_takes_less(denoiser: Any) -> None:
    plain = peak(denoiser)
    denoiser.use("low")
    assert peak(denoiser) < 0.7 * plain


def test_a_kernel_that_cannot_be_walked_through_stops_no_training(
    denoiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concept_eraser_pack.nodes import train_run

    def unknown(*_: Any) -> Any:
        raise RuntimeError("no rule for this operator's sizes")

    denoiser.load()
    settings = METHODS["kpop"].configure("pocket", {"pool_size": 4, "sampler_steps": 2})
    request = Request((Target("a church", "a castle"),), ("a dog",))
    plain = denoiser.predict

    def predict(z: Any, *rest: Any) -> Any:
        return unknown() if isinstance(z, FakeTensor) else plain(z, *rest)

    monkeypatch.setattr(denoiser, "predict", predict)
    with torch.inference_mode(False), torch.enable_grad():
        said = train_run._plan(denoiser, settings, KPOP, request, "auto")
    assert "an unknown part" in said and "(memory low)" in said


def test_the_users_model_is_left_as_it_was_also_after_an_error(denoiser: Any) -> None:
    denoiser.use("low")
    denoiser.load()
    block = next(m for m in denoiser.network.modules() if type(m).__name__ == "BasicTransformerBlock")
    calls = []

    def own(*args: Any, **words: Any) -> Any:  # of a custom node
        calls.append(1)
        return type(block).forward(block, *args, **words)

    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of memory")

    vars(block)["forward"] = own
    try:
        gradients(denoiser)
        assert len(calls) == 4 and vars(block)["forward"] is own  # two forwards, and again in the backward
        vars(block)["forward"] = failing
        with pytest.raises(RuntimeError, match="out of memory"):
            gradients(denoiser)
        assert vars(block)["forward"] is failing
    finally:
        del vars(block)["forward"]
    assert not any("forward" in vars(m) for m in denoiser.network.modules())


def test_a_patch_that_draws_random_numbers_draws_them_again(denoiser: Any) -> None:
    denoiser.use("low")
    denoiser.load()
    drawn = []

    def patch(n: Any, context: Any, value: Any, options: Any) -> Any:  # as ToMe's, in a transformer block
        drawn.append(float(torch.rand(())))
        return n, context, value

    options = denoiser._patcher.model_options["transformer_options"]
    options["patches"] = {"attn1_patch": [patch]}
    try:
        gradients(denoiser)
    finally:
        del options["patches"]
    assert len(drawn) == 2 * len(set(drawn)) > 2


def test_fp16_loses_no_gradient(checkpoint: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size that a mean over a true latent's numbers has, for a student near its teacher."""
    from concept_eraser_pack.nodes.host import denoiser as host_denoiser

    size, n = 0.01 / 65536, 65536.0
    right = torch.cat([g.flatten() for g in gradients(made(checkpoint), size=size)])
    close = {}
    for gain in (n, 1.0):
        monkeypatch.setattr(host_denoiser, "fp16_gain", lambda z, gain=gain: gain)
        got = torch.cat([g.flatten() for g in gradients(made(checkpoint, "fp16"), size=size)])
        close[gain] = float(torch.cosine_similarity(got.double(), right.double(), 0))
    assert close[n] > 0.99 > 0.9 > close[1.0]


@pytest.mark.parametrize(
    ("wanted", "room", "chosen"), [("auto", 9e9, "normal"), ("auto", 0, "low"), ("low", 9e9, "low")]
)
def test_auto_is_low_where_normal_does_not_fit(
    checkpoint: tuple[Any, Any, Any],
    denoiser: Any,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    room: float,
    chosen: str,
) -> None:
    from concept_eraser_pack.nodes import train_run

    settings = METHODS["kpop"].configure("pocket", {"pool_size": 4, "sampler_steps": 2})
    request = Request((Target("a church", "a castle"),), ("a dog",))
    plan = train_run.estimate.Plan(settings.batch, settings.rank)
    with torch.inference_mode(False), torch.enable_grad():
        needs = []
        for preset in ("normal", "low"):
            denoiser.use(preset)
            needs.append(train_run.estimate.need(denoiser, settings, KPOP, request, plan))
        free = room or sum(needs) / 2
        monkeypatch.setattr(train_run.memory, "get_free_memory", lambda d, both=False: (free, free) if both else free)
        said = train_run._plan(denoiser, settings, KPOP, request, wanted)
    assert f"(memory {chosen})" in said and denoiser.recompute == (chosen == "low")
