"""Attribution Map: the engine's heat maps, on the host's MODEL."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import graphs
import pytest
import torch
from graphs import node
from host_client import Client, QueueError
from test_host_closed_form import SOLVE
from test_host_train import training

from eraser_core.backends.pocket import load_pocket_denoiser
from eraser_core.errors import RequestError
from eraser_core.evaluation.metrics.attention import word_positions
from eraser_core.evaluation.metrics.attribution import heat_maps
from eraser_core.sampling import noise_for

PROMPT = "a church in clay style"
LOOK = {
    "prompt": PROMPT,
    "words": "church\nclay",
    "seed": 3,
    "steps": 4,
    "cfg": 3.0,
    "width": 0,
    "height": 0,
    "batch": 2,
}


def looking(name: str = "look", model: graphs.Link | None = None, **values: Any) -> graphs.Prompt:
    inputs = {"model": model or ["ckpt", 0], "clip": ["ckpt", 1], "vae": ["ckpt", 2], **LOOK, **values}
    return {
        name: node("ConceptEraser_AttributionMap", **inputs),
        f"{name}.sheet": node("PreviewImage", images=[name, 0]),
        f"{name}.pictures": node("PreviewImage", images=[name, 1]),
        f"{name}.text": node("PreviewAny", source=[name, 3]),
    }


@pytest.fixture(scope="module")
def checkpoint(comfy: ModuleType, pack: ModuleType) -> tuple[Any, Any, Any]:
    with torch.inference_mode():
        return comfy.CheckpointLoaderSimple().load_checkpoint(graphs.POCKET)


@pytest.fixture(scope="module")
def attribution(pack: ModuleType) -> Any:
    from concept_eraser_pack.nodes import attribution

    return attribution


def attributed(attribution: Any, checkpoint: Any, **values: Any) -> Any:
    with torch.inference_mode(False), torch.no_grad():
        return attribution.attribute(*checkpoint, {**LOOK, **values})


def test_the_maps_are_the_engines_own(attribution: Any, checkpoint: Any) -> None:
    _, pictures, masks, text = attributed(attribution, checkpoint)
    engine = load_pocket_denoiser()
    noise = noise_for(engine.latent_shape, LOOK["seed"], range(2))
    found = heat_maps(engine, noise, engine.encode([PROMPT]).expand(2), engine.encode([""]), 4, 3.0)
    torch.testing.assert_close(pictures.movedim(-1, 1), engine.decode(found.latents), rtol=0, atol=1e-3)
    assert masks.shape == (4, 64, 64)
    for i, word in enumerate(("church", "clay")):
        own = found.of(word_positions(engine, PROMPT, word))
        assert f"{word}: {100 * float(own.mean()):.2f} % of the attention" in text
        small = torch.nn.functional.interpolate(own[:, None], size=(64, 64), mode="bilinear")[:, 0]
        small = small / small.amax((1, 2), keepdim=True)
        torch.testing.assert_close(masks[2 * i : 2 * i + 2], small, rtol=0, atol=1e-2)
    assert not torch.allclose(masks[:2], masks[2:], atol=5e-2)  # the comparison can fail


def test_little_memory_gives_the_same_maps(attribution: Any, checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attributed(attribution, checkpoint)
    load = attribution.HostDenoiser.load

    def tight(denoiser: Any) -> Any:
        fresh = not denoiser._parameters
        found = load(denoiser)
        if fresh:
            denoiser.rows_at_once = 1
        return found

    monkeypatch.setattr(attribution.HostDenoiser, "load", tight)
    parts = attributed(attribution, checkpoint)
    for ours, theirs in zip(parts[1:3], whole[1:3], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)
    assert parts[3] == whole[3]


def test_it_shows_pictures_maps_and_shares_before_and_after_an_erasure(host: Client) -> None:
    prompt = graphs.checkpoint() | {"solve": node("ConceptEraser_EraseClosedForm", **SOLVE)}
    outputs = host.run(prompt | looking("before") | looking("after", ["solve", 0]))
    for name in ("before", "after"):
        assert len(host.images(outputs, f"{name}.pictures")) == 2
        assert host.images(outputs, f"{name}.sheet")[0].shape[0] > 3 * 256
        assert "church: " in outputs[f"{name}.text"]["text"][0]
    assert outputs["before.text"]["text"] != outputs["after.text"]["text"]


def test_a_hidden_prompt_in_one_text_or_both_is_said(host: Client) -> None:
    prompt = training() | {
        "pos": node("CLIPTextEncode", text=PROMPT, clip=["ckpt", 1]),
        "neg": node("CLIPTextEncode", text="", clip=["ckpt", 1]),
    }
    inject = {"positive": ["pos", 0], "negative": ["neg", 0], "prompt_name": "(from the socket)", "concept": ""}
    inject |= {"halves": "both"}
    prompt["inject"] = node("ConceptEraser_HiddenPromptInject", strength=1.0, hidden_prompt=["train", 2], **inject)
    both = {"positive": ["inject", 0], "negative": ["inject", 1]}
    outputs = host.run(prompt | looking(model=["train", 0], **both) | looking("plain", ["train", 0]))
    assert "is not the plain text of" in outputs["look.text"]["text"][0]
    assert "plain text" not in outputs["plain.text"]["text"][0]
    alone = host.run(prompt | looking(positive=["inject", 0]))
    assert "is not the plain text of" in alone["look.text"]["text"][0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"words": " \n"}, "the box 'words' is empty"),
        ({"words": "castle"}, "has no word 'castle'"),
        ({"prompt": "a (church:1.2)", "words": "church"}, "write it without"),
        ({"prompt": "a zeppelin", "words": "zeppelin"}, "does not know the word"),
        ({"prompt": "", "words": "church"}, "the box 'prompt' is empty"),
        ({"width": 100}, "divide by 8"),
        ({"width": 32}, "64 or more"),
    ],
)
def test_bad_input_is_said_in_words(host: Client, values: dict[str, Any], said: str) -> None:
    with pytest.raises(QueueError, match=said):
        host.run(graphs.checkpoint() | looking(**values))


def test_regions_and_a_foreign_or_missing_vae_or_clip_are_refused_in_words(attribution: Any, checkpoint: Any) -> None:
    model, clip, vae = checkpoint
    text = torch.zeros((1, 16, 192))

    class Foreign:
        latent_channels = 4

    for parts, values, said in (
        ((model, clip, vae), {"positive": [[text, {}], [text, {}]]}, "more than one plain text"),
        ((model, clip, vae), {"positive": [[text, {"mask": text}]]}, "more than one plain text"),
        ((model, clip, vae), {"positive": [[torch.zeros((1, 77, 768)), {}]]}, "gives 768 numbers a token"),
        ((model, clip, None), {}, "connect Load VAE"),
        ((model, clip, Foreign()), {}, "reads latents of 4 channels, the MODEL makes 8"),
        ((model, None, vae), {}, "holds no text encoder"),
    ):
        with pytest.raises(RequestError, match=said):
            attributed(attribution, parts, **values)
