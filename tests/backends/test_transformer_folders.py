"""Folders of transformers are read as diffusers' own pipelines read them, and closed forms work on what was read."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_transformers import FAMILIES, MODELS, D, t5, transformer_folder

from eraser_core.backends import transformer_reader, transformer_texts
from eraser_core.backends.transformer_reader import TransformerReader
from eraser_core.backends.transformer_texts import T5Text
from eraser_core.erasing import configure, solve
from eraser_core.errors import FileFormatError, ModelError, RequestError
from eraser_core.keeping import choose
from eraser_core.methods import METHODS
from eraser_core.models import open_model, open_reader
from eraser_core.request import Request, Target
from eraser_core.text_layers import reads_pooled, reads_text
from eraser_core.text_places import LENGTH
from eraser_core.text_readers import places, stretches

pytestmark = pytest.mark.usefixtures("few_general_words")
PROMPTS = ("a photo of a church on a table", "a castle", "A Wizard  on a table &amp; a dog", "")
ENDS = {"": "text_encoder", "_2": "text_encoder_2", "_3": "text_encoder_3"}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformer_folder(tmp_path_factory.mktemp("model") / request.param, request.param)


@pytest.fixture(scope="module")
def reader(folder: Path) -> TransformerReader:
    return open_reader(str(folder))


def pipeline_of(folder: Path) -> Any:
    """diffusers' own pipeline of the folder's parts, without those that draw."""
    family = folder.name
    name, transformer, _ = MODELS[family]
    parts: dict[str, Any] = {"scheduler": None, "vae": None}
    parts["transformer"] = getattr(diffusers, transformer).from_pretrained(folder / "transformer")
    for end, part in ENDS.items():
        if (folder / part).is_dir():
            kind = json.loads((folder / part / "config.json").read_text())["architectures"][0]
            parts[part] = getattr(transformers, kind).from_pretrained(folder / part)
            tokenizer = "CLIPTokenizer" if kind.startswith("CLIP") else "AutoTokenizer"
            parts[f"tokenizer{end}"] = getattr(transformers, tokenizer).from_pretrained(folder / f"tokenizer{end}")
    return getattr(diffusers, name)(**parts)


def by_pipeline(pipeline: Any, family: str, prompt: str) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """The states of each encoder, without what the pipeline masks, and the pooled text."""
    with torch.no_grad():
        if family == "flux1":
            states, pooled, _ = pipeline.encode_prompt(prompt, None, device="cpu")
            return [states[0]], pooled
        if family == "flux2":
            return [pipeline.encode_prompt(prompt, "cpu")[0][0]], None
        if family == "sd3":
            states, _, pooled, _ = pipeline.encode_prompt(
                prompt, None, None, device="cpu", do_classifier_free_guidance=False
            )
            return [states[0, :77], states[0, 77:]], pooled
        if family == "chroma":
            states, _, mask, *_ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
            return [states[0][mask[0].bool()]], None
        if family == "z-image":
            return [pipeline.encode_prompt(prompt, "cpu", False)[0][0]], None
        if family == "wan":
            states = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False, device="cpu")[0]
            return [states[0][states[0].any(1)]], None
        words = {} if family == "qwen-image" else {"do_classifier_free_guidance": False}
        states, mask, *_ = pipeline.encode_prompt(prompt, device="cpu", **words)
        return [states[0] if mask is None else states[0][mask[0].bool()]], None


def test_prompts_are_read_as_the_pipeline_reads_them(folder: Path, reader: TransformerReader) -> None:
    """State by state, and no state too many; what PixArt makes of them is made here by its own module."""
    pipeline = pipeline_of(folder)
    for prompt in PROMPTS:
        parts, pooled = by_pipeline(pipeline, folder.name, prompt)
        if folder.name == "pixart-sigma":
            with torch.no_grad():
                parts = [pipeline.transformer.caption_projection(parts[0])]
        found = reader.encode([prompt, "a dog in the street"]).tokens[0].split(LENGTH)  # a longer one beside it
        for theirs, ours in zip(parts, found, strict=True):
            n = min(len(theirs), LENGTH)
            assert torch.allclose(ours[:n], theirs[:n], atol=1e-4), (prompt, (ours[:n] - theirs[:n]).abs().max())
            assert not ours[len(theirs) :].any()
        others = reader.encode(["a soccer ball"]).tokens[0].split(LENGTH)
        assert not any(torch.allclose(a[:40], b[:40], atol=1e-2) for a, b in zip(found, others, strict=True))
        for place in places(reader)[1:]:
            assert pooled is not None and torch.allclose(place.encode([prompt]).tokens[0], pooled, atol=1e-5)


def test_the_matrices_are_those_of_the_transformer(folder: Path, reader: TransformerReader) -> None:
    """Their numbers are the file's to the last bit, and their names are known to read text (which is which: test_host_folder_parity)."""
    own = load_file(next((folder / "transformer").glob("*.safetensors")))
    for place in places(reader):
        for key, weight in place.weights("xattn-kv").items():
            assert reads_text(key) or reads_pooled(key)
            parts = [tensor for tensor in own.values() if tensor.dim() == 2 and tensor.shape[1] == weight.shape[1]]
            assert any(torch.equal(weight[: len(part)], part) for part in parts)


def test_the_log_counts_a_prompt_once_however_many_encoders_read_it(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer_reader, "SAID_EVERY", -1.0)
    with caplog.at_level(logging.INFO):
        reader = open_reader(str(folder))
        reader.encode(["a church", "a dog"])
        reader.encode(["a dog", "a castle"])
    assert [line for line in caplog.messages if "read" in line] == ["2 prompts read", "3 prompts read"]


def asked() -> Request:
    templates = ("{}", "a photo of {}", "{} on a table")
    return Request((Target("a church", "a castle", ("a chapel",), templates),), ("a dog", "a truck", "a violin"))


def _lasts(reader: Any, states: torch.Tensor, text: str) -> torch.Tensor:
    """The state of the last word, of each encoder."""
    return torch.stack([states[i * LENGTH + one.token_count(text) - 1] for i, one in enumerate(stretches(reader))])


def moved(reader: Any, entries: Any, before: str, after: str, last: bool = False) -> float:
    """How much nearer what the matrices read of `before` comes to what they read of `after`: 1 is there, 0 no nearer.

    `last`: of the last words alone.
    """
    s, g = (reader.as_read(reader.encode([text]).tokens)[0].double() for text in (before, after))
    if last:
        s, g = (_lasts(reader, x, text) for x, text in ((s, before), (g, after)))
    left = apart = 0.0
    for key, weight in reader.weights("xattn-kv").items():
        w = weight.double()
        left += float((s @ (w + entries[key].delta().double()).T - g @ w.T).square().sum())
        apart += float(((s - g) @ w.T).square().sum())
    return 1 - (left / apart) ** 0.5


@pytest.mark.parametrize("method", ["uce", "time", "dp"])
def test_a_closed_form_leads_the_concept_to_its_anchor_and_leaves_the_rest(
    reader: TransformerReader, method: str
) -> None:
    request = asked()
    erasure = solve(reader, request, METHODS[method], configure(METHODS[method], reader.family, request, {})).erasure
    every = [key for place in places(reader) for key in place.weights("xattn-kv")]
    assert list(erasure.entries) == every and len(every) == {"pixart-sigma": 2, "flux1": 2, "sd3": 2}.get(
        reader.family, 1
    )
    assert erasure.family == reader.family and erasure.base_hash == reader.base_hash
    for place in places(reader):
        if method == "uce":
            gone = moved(place, erasure.entries, "a church on a table", "a castle on a table")
            kept = moved(place, erasure.entries, "a dog on a table", "a castle on a table")
            assert gone > 0.1 and gone > 2 * abs(kept), (gone, kept)
        else:  # these look at single tokens
            gone = moved(place, erasure.entries, "a church", "a castle", last=True)
            kept = moved(place, erasure.entries, "a dog", "a castle", last=True)
            # TIME keeps nothing, so a dog moves, and not to the castle. DP's four directions go a part of the way.
            least, times = {"time": (0.5, 2), "dp": (0.02, 10)}[method]
            assert gone > least and gone > times * (kept if method == "time" else abs(kept)), (gone, kept)


@pytest.mark.parametrize(("method", "passes"), [("dp", 6), ("time", 7)])
def test_prompts_go_through_the_encoder_many_at_a_time(
    method: str, passes: int, flux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the list of objects 88 prompts, each once, of Flux.1 at most 16 a pass."""
    reader, read, states = open_reader(str(flux)), [], T5Text.states
    request = choose(reader, [("church", [])], ["castle"], None, 0).request
    monkeypatch.setattr(T5Text, "states", lambda self, prompts: read.append(prompts) or states(self, prompts))
    solve(reader, request, METHODS[method], configure(METHODS[method], reader.family, request, {}))
    prompts = [prompt for part in read for prompt in part]
    assert len(read) == passes and len(prompts) == len(set(prompts)) == 88


def test_a_prompt_beyond_the_room_is_refused(reader: TransformerReader) -> None:
    for piece in stretches(reader):
        with pytest.raises(RequestError, match="shorten"):
            piece.token_count("a church " * 80)


def test_nothing_reaches_the_network_and_nothing_is_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    open_reader(str(folder)).encode(["a church"])
    with pytest.raises(ModelError, match="--method uce, time or dp works on it"):
        open_model(str(folder))


def damaged(folder: Path, path: Path, change: Any) -> str:
    """A copy of a folder with something wrong, and what is said of it."""
    copy = shutil.copytree(folder, path / folder.name)
    change(copy)
    with pytest.raises((ModelError, FileFormatError)) as told:
        open_reader(str(copy)).encode(["a church"])
    return str(told.value)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformer_folder(tmp_path_factory.mktemp("flux") / "flux1", "flux1")


def rewrite(path: Path, change: Any) -> None:
    (file,) = path.glob("*.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, {"format": "pt"})


def replace_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


DOOR = "context_embedder.weight"
BLOCK = "encoder.block.1.layer.0.SelfAttention.q.weight"
WRONG: dict[str, tuple[Any, str]] = {
    "no T5": (
        lambda at: shutil.rmtree(at / "text_encoder_2"),
        "lacks the folder text_encoder_2, with which Flux.1 reads",
    ),
    "no CLIP": (lambda at: shutil.rmtree(at / "text_encoder"), "lacks the folder text_encoder"),
    "no tokenizer": (lambda at: shutil.rmtree(at / "tokenizer_2"), "lacks the folder tokenizer_2"),
    "an empty tokenizer": (lambda at: (at / "tokenizer_2" / "tokenizer.json").unlink(), "the tokenizer in"),
    "no index": (lambda at: (at / "model_index.json").unlink(), "which says how it reads a prompt, cannot be read"),
    "an index of letters": (lambda at: (at / "model_index.json").write_text("what"), "cannot be read"),
    "another pipeline": (
        lambda at: replace_json(at / "model_index.json", _class_name="HiDreamImagePipeline"),
        "is made for HiDreamImagePipeline, whose prompts the command line cannot read",
    ),
    "a pickle": (
        lambda at: next((at / "transformer").glob("*.safetensors")).rename(at / "transformer" / "model.bin"),
        "model.bin is a pickle, which is never opened",
    ),
    "no door": (lambda at: rewrite(at / "transformer", lambda t: t.pop(DOOR)), f"lacks {DOOR}"),
    "a quantised door": (
        lambda at: rewrite(at / "transformer", lambda t: t.update({DOOR: t[DOOR].to(torch.uint8)})),
        "holds quantised weights",
    ),
    "a block that is missing": (lambda at: rewrite(at / "text_encoder_2", lambda t: t.pop(BLOCK)), f"lacks {BLOCK}"),
    "a block of another shape": (
        lambda at: rewrite(at / "text_encoder_2", lambda t: t.update({BLOCK: t[BLOCK][:4].clone()})),
        "has shape",
    ),
    "a door of another model": (
        lambda at: rewrite(at / "transformer", lambda t: t.update({DOOR: torch.randn(32, D + 1)})),
        f"gives {D} numbers a token, and the transformer reads {D + 1}",
    ),
    "a second transformer": (
        lambda at: shutil.copytree(at / "transformer", at / "transformer_2"),
        "holds two transformers",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_missing_or_wrong_is_said_in_one_sentence(wrong: str, flux: Path, tmp_path: Path) -> None:
    change, said = WRONG[wrong]
    told = damaged(flux, tmp_path, change)
    assert said in told and str(tmp_path) in told and "\n" not in told


def test_a_tokenizer_whose_package_is_missing_is_not_called_damaged(
    flux: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spiece_alone(at: Path) -> None:
        (at / "tokenizer_2" / "tokenizer.json").rename(at / "tokenizer_2" / "spiece.model")

    assert "cannot be read" in damaged(flux, tmp_path / "there", spiece_alone)
    monkeypatch.setattr(transformer_texts, "find_spec", lambda name: None)
    assert "pip install sentencepiece" in damaged(flux, tmp_path / "not there", spiece_alone)
    open_reader(str(flux)).encode(["a church"])  # with a tokenizer.json it is not needed


def test_stable_diffusion_3_does_without_t5_where_its_index_says_so(tmp_path: Path) -> None:
    """A folder that merely lost it is refused."""
    folder = transformer_folder(tmp_path / "sd3", "sd3")
    shutil.rmtree(folder / "text_encoder_3")
    with pytest.raises(ModelError, match="lacks the folder text_encoder_3"):
        open_reader(str(folder))
    replace_json(folder / "model_index.json", text_encoder_3=[None, None])
    reader = open_reader(str(folder))
    assert reader.encode(["a church"]).tokens.shape == (1, LENGTH, 80)
    assert len(reader.stretches()) == 1 and reader.token_count("a church") == 8  # start and letters


def test_a_pooled_text_of_another_model_and_a_long_one_are_refused(flux: Path, tmp_path: Path) -> None:
    pooled = open_reader(str(flux)).places()[1]
    with pytest.raises(RequestError, match="tokens longer than CLIP reads"):
        pooled.encode(["church " * 20])
    copy = shutil.copytree(flux, tmp_path / "flux1")
    name = "time_text_embed.text_embedder.linear_1.weight"
    rewrite(copy / "transformer", lambda t: t.update({name: torch.randn(32, 33)}))
    with pytest.raises(ModelError, match="a pooled text of 32 numbers, and the transformer reads 33"):
        open_reader(str(copy)).places()[1].encode(["a church"])


def test_a_text_encoder_of_another_width_is_refused_before_pixarts_own_network(tmp_path: Path) -> None:
    folder = transformer_folder(tmp_path / "pixart-sigma", "pixart-sigma")
    shutil.rmtree(folder / "text_encoder")
    t5(folder / "text_encoder", width=D + 16)
    with pytest.raises(ModelError, match=f"gives {D + 16} numbers a token, and the transformer reads {D}:"):
        open_reader(str(folder)).encode(["a church"])


def test_pixart_with_size_embeddings_has_the_nodes_other_name(tmp_path: Path) -> None:
    folder = transformer_folder(tmp_path / "pixart-sigma", "pixart-sigma")
    name = "adaln_single.emb.resolution_embedder.linear_1.weight"
    rewrite(folder / "transformer", lambda t: t.update({name: torch.zeros(4, 4)}))
    assert open_reader(str(folder)).family == "pixart-alpha"


def test_a_text_encoder_in_half_precision_is_computed_in_single(flux: Path, tmp_path: Path) -> None:
    """The states are those of the rounded weights in float32, and no block stays in memory."""
    copy = shutil.copytree(flux, tmp_path / "flux1")
    rewrite(copy / "text_encoder_2", lambda t: t.update({k: v.to(torch.bfloat16) for k, v in t.items()}))
    half = open_reader(str(copy)).encode(["a church"]).tokens
    rewrite(copy / "text_encoder_2", lambda t: t.update({k: v.float() for k, v in t.items()}))
    assert torch.equal(half, open_reader(str(copy)).encode(["a church"]).tokens)
    whole = open_reader(str(flux))
    assert not torch.equal(half, whole.encode(["a church"]).tokens)
    model = whole._texts[0]._model  # type: ignore[attr-defined]
    held = {name: weight for name, weight in model.named_parameters() if weight.device.type != "meta"}
    assert list(held) == ["shared.weight", "encoder.embed_tokens.weight", "encoder.final_layer_norm.weight"]
    assert held["shared.weight"].data_ptr() == held["encoder.embed_tokens.weight"].data_ptr()
