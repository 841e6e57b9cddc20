"""Training on transformers: the host's own classes and tokenizers, narrow, with random weights."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from narrow_transformers import FAMILIES, clip_of, known, model_of
from torch import Tensor

from eraser_core.denoiser import Context
from eraser_core.edits import make_edit
from eraser_core.erasure import LowRank
from eraser_core.errors import ModelError, RequestError
from eraser_core.text_layers import reads_pooled, reads_text

pytestmark = pytest.mark.usefixtures("few_general_words")
SHORT, LONG = "a church", "a photo of a church on a table"
SIDES = {"pixart-sigma": 512}  # PixArt has a smallest size
T = torch.tensor([300, 700])


@pytest.fixture(scope="module", params=FAMILIES)
def denoiser(request: pytest.FixtureRequest, pack: ModuleType) -> Any:
    from concept_eraser_pack.nodes.host.transformer import denoiser_for

    if not known(request.param):
        pytest.skip("this version of the host does not know the family")
    with torch.inference_mode(False):
        side = SIDES.get(request.param, 64)
        return denoiser_for(model_of(request.param), clip_of(request.param), side, side)


@pytest.fixture(autouse=True)
def _no_inference() -> Any:
    with torch.inference_mode(False):
        yield


def noise(denoiser: Any, b: int = 2) -> Tensor:
    return torch.randn(b, *denoiser.latent_shape, generator=torch.Generator().manual_seed(1))


def by_the_host(model: Any, conditioning: Any, z_t: Tensor, t: Tensor, denoiser: Any) -> Tensor:
    """What the host's own sampling computes for one row, as a native prediction."""
    import comfy.sampler_helpers
    import comfy.samplers

    a, s = denoiser.schedule.signal_and_noise(t)
    flow = denoiser.schedule.prediction == "flow"
    x, sigma = (z_t, s.flatten()) if flow else (z_t / a, (s / a).flatten())
    deep = model.model.latent_format.latent_dimensions == 3
    with torch.inference_mode():
        x = x.unsqueeze(2) if deep else x
        conds = {"positive": comfy.sampler_helpers.convert_cond(conditioning)}
        model.pre_run()
        whole = comfy.samplers.process_conds(model.model, x, conds, model.load_device)["positive"]
        drawn = comfy.samplers.calc_cond_batch(model.model, [whole], x, sigma, model.model_options)[0]
        native = (x - drawn) / sigma.view(-1, *[1] * (x.dim() - 1))
    return (native.squeeze(2) if deep else native).clone()


def conditioning_of(clip: Any, text: str) -> Any:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_texts_of_two_lengths_in_one_batch_give_what_the_host_draws(denoiser: Any) -> None:
    z_t = noise(denoiser)
    with torch.no_grad():
        out = denoiser.predict(z_t, T, denoiser.encode([SHORT, LONG]))
    for i, text in enumerate((SHORT, LONG)):
        host = by_the_host(
            denoiser._model, conditioning_of(denoiser._clip, text), z_t[i : i + 1], T[i : i + 1], denoiser
        )
        assert apart(out[i : i + 1], host) < 2e-5
    other = by_the_host(denoiser._model, conditioning_of(denoiser._clip, LONG), z_t[:1], T[:1], denoiser)
    assert apart(out[:1], other) > 2e-4


def _loss(denoiser: Any, edit: Any, target: Tensor) -> Tensor:
    return (denoiser.predict(noise(denoiser), T, denoiser.encode([SHORT, LONG]), edit) * target).mean()


@pytest.mark.parametrize("tune", ["xattn-kv", "xattn", "all"])
def test_gradients_are_true_whether_blocks_are_computed_again_or_not(denoiser: Any, tune: Any) -> None:
    """Against each other to the bit, and against differences of the loss."""
    generator = torch.Generator().manual_seed(3)
    edit = make_edit(denoiser, tune, 2, generator)
    with torch.no_grad():
        for parameter in edit.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 1e-2)
    target = torch.randn(noise(denoiser).shape, generator=generator)
    found = []
    for preset in ("normal", "low"):
        denoiser.use(preset)
        found.append(torch.autograd.grad(_loss(denoiser, edit, target), edit.parameters(), allow_unused=True))
    denoiser.use("normal")
    gone = [(a is None, b is None) for a, b in zip(*found, strict=True)]
    assert all(a == b for a, b in gone) and not all(a for a, _ in gone)
    used = [(a, b) for a, b in zip(*found, strict=True) if a is not None]
    assert all(torch.equal(a, b) for a, b in used)
    if "pixart" in denoiser.family:  # random weights bend it too much for differences in float32
        return
    size = sum(float(a.square().sum()) for a, _ in used) ** 0.5
    step = 1e-2 if size > 1e-3 else 0.2  # where text hardly matters, smaller differences drown in float32
    sums = []
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, gradient in zip(edit.parameters(), found[0], strict=True):
                parameter.add_(0 if gradient is None else sign * step / size * gradient)
            sums.append(float(_loss(denoiser, edit, target)))
    assert size == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=0.1)


def values(**own: Any) -> dict[str, Any]:
    given = {
        "concepts": "church",
        "anchor": "a castle",
        "retain": "a dog",
        "seed": 0,
        "key_seed": 7,
        "steps": 2,
        "batch": 1,
    }
    given |= {"tune": "xattn-kv", "rank": 4, "width": 64, "height": 64, "precision": "fp32", "compute": "auto"}
    return {**given, "memory": "auto", **own}


def trained(denoiser: Any, method: str, **own: Any) -> Any:
    from concept_eraser_pack.nodes import train_run
    from concept_eraser_pack.nodes.values import MethodChoice

    side = SIDES.get(denoiser.family, 64)
    settings = {"pool_size": 4, "per_trajectory": 2, "sampler_steps": 2, **own.pop("settings", {})}
    asked = values(width=side, height=side, filename_prefix=f"loras/{denoiser.family}_{method}", **own)
    asked["method"] = MethodChoice(method, settings)
    return train_run.train(denoiser._model, denoiser._clip, asked, "")


def test_the_node_trains_saves_and_the_hidden_prompt_reaches_the_host(denoiser: Any) -> None:
    """The sanitized MODEL, drawn by the host with the injected prompt, computes what was trained."""
    from concept_eraser_pack.nodes import prompts as nodes
    from concept_eraser_pack.nodes.host.transformer import denoiser_for

    if not denoiser.appends:
        with pytest.raises(RequestError, match="learns a hidden prompt, and this MODEL"):
            trained(denoiser, "kpop")
        return
    (sanitized, erasure, hidden, *_), said = trained(denoiser, "kpop")
    assert erasure.family == denoiser.family and "church -> a castle: done" in said
    keys = {key for key in denoiser._model.model_state_dict() if reads_text(key) or reads_pooled(key)}
    assert set(erasure.entries) == keys
    (prompt,) = hidden.prompts
    assert prompt.tokens_per_chunk == 0
    z_t, side = noise(denoiser, 1), SIDES.get(denoiser.family, 64)
    after = denoiser_for(sanitized, denoiser._clip, side, side)
    with torch.no_grad():
        opened = after.predict(z_t, T[:1], prompt.extend(after.encode([SHORT])))
        closed = after.predict(z_t, T[:1], after.encode([SHORT]))
    positive = nodes.inject(conditioning_of(denoiser._clip, SHORT), prompt, 1.0)
    missed = apart(by_the_host(sanitized, positive, z_t, T[:1], denoiser), opened)
    assert missed < 2e-5 and apart(closed, opened) > 3 * missed


@pytest.mark.parametrize("method", ["esd", "ca", "naive", "uce"])
def test_other_methods_run_too(denoiser: Any, method: str) -> None:
    settings: dict[str, Any] = {} if method != "ca" else {"anchor_images": 2}
    if method == "uce":
        from concept_eraser_pack.nodes import train_run
        from concept_eraser_pack.nodes.values import MethodChoice

        asked = values(filename_prefix=f"loras/{denoiser.family}_uce", method=MethodChoice("uce", {}))
        side = SIDES.get(denoiser.family, 64)
        (_, erasure, *_), _ = train_run.train(
            denoiser._model, denoiser._clip, asked | {"width": side, "height": side}, ""
        )
    else:
        (_, erasure, *_), _ = trained(denoiser, method, tune="all" if method == "naive" else "xattn", settings=settings)
    assert erasure.entries and all(e.up.isfinite().all() for e in erasure.entries.values() if isinstance(e, LowRank))


@pytest.mark.parametrize("tune", ["text", "noxattn"])
def test_other_parts_are_trained_too(denoiser: Any, tune: str) -> None:
    (_, erasure, *_), _ = trained(denoiser, "naive", tune=tune)
    reads = [reads_text(key) for key in erasure.entries]
    assert reads and (all(reads) if tune == "text" else not any(reads))


def test_robust_learns_contexts_here(denoiser: Any) -> None:
    small = {"contexts": 2, "context_rows": 2, "context_age": 1, "pictures": 2, "retain_rows": 2}
    (_, erasure, *_), _ = trained(denoiser, "robust", tune="xattn", settings=small)
    assert all(e.up.isfinite().all() for e in erasure.entries.values() if isinstance(e, LowRank))


def test_what_the_host_keeps_in_float32_stays_so_and_the_rest_computes_in_bf16(denoiser: Any) -> None:
    """Wan's first weight is float32 beside bf16 ones, and so are PixArt's tables."""
    from concept_eraser_pack.nodes.host.transformer import denoiser_for

    side, family = SIDES.get(denoiser.family, 64), denoiser.family
    half = denoiser_for(model_of(family, dtype=torch.bfloat16), denoiser._clip, side, side, "bf16")
    edit = make_edit(half, "xattn", 2, torch.Generator().manual_seed(0))
    out = half.predict(noise(half), T, half.encode([SHORT, LONG]), edit)
    assert out.isfinite().all()
    torch.autograd.grad(out.square().mean(), edit.parameters(), allow_unused=True)
    wide = {key for key, w in half._computed.items() if w.dtype == torch.float32}
    assert bool(wide) == (family in ("wan", "pixart-sigma")) and len(wide) < len(half._computed) / 2
    assert half._own_dtype == torch.bfloat16


def test_a_video_models_frame_is_shown_while_it_trains(denoiser: Any) -> None:
    from concept_eraser_pack.nodes.host import preview

    class Frames:
        """As the host's VAE: [b, t, h, w, 3] for a video model, [b, h, w, 3] otherwise."""

        latent_channels = denoiser.latent_shape[0]

        def decode(self, latents: Tensor) -> Tensor:
            return latents.movedim(1, -1)[..., :3]

    shown = preview.decode(Frames(), denoiser, noise(denoiser))
    assert shown.shape == (2, *denoiser.latent_shape[1:], 3)


def test_the_text_encoder_may_push_the_network_out(denoiser: Any) -> None:
    """Whoever asks for what a closed form reads gets no stale parameters afterwards."""
    denoiser.load()
    assert denoiser._parameters
    denoiser.places()[0].encode(["a church"])
    assert not denoiser._parameters


def test_several_concepts_begin_from_their_closed_form(denoiser: Any) -> None:
    if not denoiser.appends:
        pytest.skip("no hidden prompt, and so no KPOP")
    (_, erasure, *_), _ = trained(denoiser, "kpop", concepts="church\nsoccer ball", anchor="a castle\na cat")
    assert '"start": "closed form"' in erasure.facts["erasure.settings"]
    ranks = [e.rank for e in erasure.entries.values() if isinstance(e, LowRank)]
    assert min(ranks) > 4  # the trained part alone has 4


def test_fp8_weights_are_trained_on_layer_by_layer(pack: ModuleType) -> None:
    """With memory low they stay in fp8; the prediction is that of the same numbers in float32."""
    from concept_eraser_pack.nodes.host.transformer import denoiser_for

    model, wide = model_of("flux1"), model_of("flux1")
    model.model.manual_cast_dtype = torch.float32
    kinds = (torch.nn.Linear,)
    for narrow, full in zip(model.model.diffusion_model.modules(), wide.model.diffusion_model.modules(), strict=True):
        if isinstance(narrow, kinds):
            rounded = narrow.weight.detach().to(torch.float8_e4m3fn)
            narrow.weight = torch.nn.Parameter(rounded, requires_grad=False)
            narrow.comfy_cast_weights = True
            full.weight = torch.nn.Parameter(rounded.float(), requires_grad=False)
    clip = clip_of("flux1")
    one, other = denoiser_for(model, clip, 64, 64), denoiser_for(wide, clip, 64, 64)
    one.use("low")
    held = one.load() and one._computed
    assert one.compute_dtype == torch.float32
    assert any(w.dtype == torch.float8_e4m3fn for w in held.values())
    edit = make_edit(one, "xattn", 2, torch.Generator().manual_seed(0))
    out = one.predict(noise(one), T, one.encode([SHORT, LONG]), edit)
    with torch.no_grad():
        assert apart(out.detach(), other.predict(noise(one), T, other.encode([SHORT, LONG]))) < 1e-5
    same = other.predict(noise(one), T, other.encode([SHORT, LONG]), edit)
    found = [torch.autograd.grad(o.square().mean(), edit.parameters()) for o in (out, same)]
    assert all(apart(a, b) < 1e-4 for a, b in zip(*found, strict=True) if b.any())
    assert any(b.any() for b in found[1])


def test_what_cannot_be_trained_on_is_refused_in_words(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser
    from concept_eraser_pack.nodes.host.transformer import denoiser_for

    clip = clip_of("flux1")
    with pytest.raises(ModelError, match="this node does not take transformers yet"):
        HostDenoiser(model_of("flux1"), clip, 64, 64)
    quantised = model_of("flux1")
    layer = quantised.model.diffusion_model.double_blocks[0].img_attn.qkv
    layer.weight = torch.nn.Parameter(torch.zeros(384, 8, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match=r"quantised \(uint8\), which cannot be trained on"):
        denoiser_for(quantised, clip, 64, 64)
    filling = denoiser_for(model_of("flux1", {"in_channels": 32}), clip, 64, 64)
    with pytest.raises(ModelError, match="draws into a given picture"):
        filling.predict(noise(filling), T, filling.encode([SHORT, LONG]))
    with pytest.raises(RequestError, match="lacks the pooled text"):
        denoiser_for(model_of("flux1"), clip, 64, 64).context(torch.zeros(1, 4, 256), None)
    longcat = model_of("flux1")
    longcat.model.__class__ = type("LongCat", (type(longcat.model),), {"_apply_model": lambda *_: None})
    with pytest.raises(ModelError, match="of the kind LongCat, which cannot be trained on"):
        denoiser_for(longcat, clip, 64, 64)
    with pytest.raises(RequestError, match="has more words than fit into one chunk of 77 tokens"):
        denoiser_for(model_of("flux1"), clip, 64, 64).encode(["a church " * 80])
    with pytest.raises(RequestError, match="divide by 16"):
        denoiser_for(model_of("flux2"), clip_of("flux2"), 72, 64)


def test_an_additive_prompt_is_refused_where_texts_have_lengths_of_their_own(denoiser: Any) -> None:
    if denoiser.appends:
        with pytest.raises(RequestError, match="set mechanism to concatenative"):
            trained(denoiser, "kpop", settings={"mechanism": "additive"})
        with pytest.raises(RequestError, match="LOCKED adds its hidden prompt to every token"):
            trained(denoiser, "locked")


def test_contexts_of_several_lengths_are_filled_up_and_longer_ones_stand_behind() -> None:
    one, two = (Context(torch.ones(1, n, 3), mask=torch.ones(1, n, dtype=torch.bool)) for n in (2, 4))
    both = Context.cat([one, two])
    assert both.mask is not None and both.mask.tolist() == [[True, True, False, False], [True] * 4]
    longer = both.with_tokens(torch.cat([both.tokens, torch.zeros(2, 1, 3)], 1))
    assert longer.mask is not None and longer.mask[:, -1].all() and not longer.mask[0, 2]
    with pytest.raises(RuntimeError):  # without masks nothing says what is text
        Context.cat([Context(one.tokens), Context(two.tokens)])


def test_what_a_step_needs_is_known_before_it(denoiser: Any) -> None:
    """More with a batch of four. What recomputing saves is nothing here, where a network has one block or two."""
    from concept_eraser_pack.nodes.host import estimate

    from eraser_core.methods import METHODS
    from eraser_core.request import Request, Target

    request = Request((Target("a church", "a castle"),), ("a dog",))
    settings = METHODS["naive"].configure(denoiser.family, {"pool_size": 1})
    found: dict[tuple[str, int], float | None] = {}
    for preset, batch in (("normal", 1), ("normal", 4), ("low", 4)):
        denoiser.use(preset)
        plan = estimate.Plan(batch, settings.rank)
        found[preset, batch] = estimate.need(denoiser, settings, METHODS["naive"].learner, request, plan)
    denoiser.use("normal")
    one, four, low = (found[key] for key in (("normal", 1), ("normal", 4), ("low", 4)))
    assert one is not None and four is not None and low is not None
    assert four > one and four * 4 > low
