"""The same model read on the command line, in diffusers' names, and in the graph, in the host's: one hash and one edit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny_transformers
import torch
from narrow_transformers import LLAMA, WIDTH, clip_of, known, model_of
from safetensors.torch import save_file

from eraser_core import general_words, text_moments
from eraser_core.__main__ import main
from eraser_core.backends.transformer_folder import FAMILIES, PREFIX
from eraser_core.denoiser import Context
from eraser_core.erasing import configure, solve
from eraser_core.erasure import Erasure, load_erasure
from eraser_core.errors import RequestError
from eraser_core.methods import METHODS
from eraser_core.models import open_reader
from eraser_core.request import Request, Target
from eraser_core.text_layers import reads_pooled, reads_text

CLIPS = {
    "qwen-image": "lumina2",
    "z-image": "lumina2",
}  # their own have the vocabulary's true size; states are states here
BOTH = ("flux1", "flux2", "chroma", "sd3", "qwen-image", "z-image", "lumina2", "pixart-sigma", "wan")
REQUEST = Request((Target("a church", "a castle", ("a chapel",), ("{}", "a photo of {}")),), ("a dog", "a truck"))


@pytest.fixture(autouse=True)
def few_general_words(monkeypatch: pytest.MonkeyPatch) -> None:
    every = general_words.general_prompts
    monkeypatch.setattr(text_moments, "general_prompts", lambda family: every(family)[:40])
    monkeypatch.setattr(general_words, "general_prompts", lambda family: every(family)[:40])


def host_names(family: str, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The host's own tensors under the names that the host itself knows from diffusers' files, where it knows any."""
    import comfy.utils

    maps = {
        "flux1": lambda: comfy.utils.flux_to_diffusers({"depth": 1, "depth_single_blocks": 1, "hidden_size": 128}),
        "chroma": lambda: comfy.utils.flux_to_diffusers({"depth": 1, "depth_single_blocks": 1, "hidden_size": 128}),
        "sd3": lambda: comfy.utils.mmdit_to_diffusers({"depth": 2, "num_blocks": 2}),
        "pixart-sigma": lambda: comfy.utils.pixart_to_diffusers({"depth": 2, "hidden_size": 96}),
    }
    found = {}
    for theirs, ours in maps.get(family, dict)().items():
        name, *cut = ours if isinstance(ours, tuple) else (ours,)
        if name in own and (reads_text(PREFIX + name) or reads_pooled(PREFIX + name)):
            found[theirs] = own[name].narrow(*cut[0]) if cut else own[name]
    return found


def diffusers_names(family: str, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the folder's transformer has to hold of the host's tensors, by the table of the command line."""
    row = next(row for row in FAMILIES if family.startswith(row.name.removesuffix("-alpha")))
    found = {}
    for key, parts in row.tensors.items():
        for i in range(2) if "{}" in key else (0,):
            rows = own[key.replace("{}", str(i))].chunk(len(parts))
            found |= {part.replace("{}", str(i)): w for part, w in zip(parts, rows, strict=True)}
    if family == "pixart-sigma":
        for i in (1, 2):
            for kind in ("weight", "bias"):
                found[f"caption_projection.linear_{i}.{kind}"] = own[f"y_embedder.y_proj.fc{i}.{kind}"]
    return found


def folder_of(path: Path, family: str, clip: str = "") -> tuple[Any, Path]:
    """A host's MODEL and CLIP as the node reads them, and a folder with the same matrices."""
    from concept_eraser_pack.nodes.host.unloaded import UnloadedDenoiser

    model = model_of(family)
    own = {key.removeprefix(PREFIX): weight for key, weight in model.model_state_dict().items()}
    with torch.inference_mode(False), torch.no_grad():
        node = UnloadedDenoiser(model, clip_of(clip or CLIPS.get(family, family)))
    folder = tiny_transformers.transformer_folder(path / family, family)
    named = diffusers_names(family, own)
    for name, weight in host_names(family, own).items():
        assert torch.equal(named[name], weight), name
    (file,) = (folder / "transformer").glob("*.safetensors")
    save_file({name: weight.contiguous().clone() for name, weight in named.items()}, file)
    return node, folder


@pytest.mark.parametrize("family", BOTH)
def test_the_same_weights_give_one_hash_one_name_and_from_the_same_states_one_file(
    family: str, pack: ModuleType, tmp_path: Path
) -> None:
    if not known(family):
        pytest.skip("this version of the host does not know the family")
    node, folder = folder_of(tmp_path, family)
    reader = open_reader(str(folder))
    assert reader.family == node.family and reader.base_hash == node.base_hash
    reader.encode = lambda prompts: Context(node.encode(prompts).tokens)
    reader._pieces, reader._vectors = node._pieces, node.vectors if node._pooled else None
    ours, theirs = (made(one) for one in (reader, node))
    assert ours.tensors().keys() == theirs.tensors().keys()
    for key, tensor in theirs.tensors().items():
        assert torch.equal(ours.tensors()[key], tensor), key
    assert ours.facts == theirs.facts | {"modelspec.date": ours.facts["modelspec.date"]}
    other = next(iter(reader._read.values()))
    other.add_(1e-2)  # in place: another model of the family
    assert not torch.equal(next(iter(made(reader).tensors().values())), next(iter(theirs.tensors().values())))


def made(model: Any) -> Erasure:
    settings = configure(METHODS["uce"], model.family, REQUEST, {})
    return solve(model, REQUEST, METHODS["uce"], settings, torch.float32).erasure


T5 = {"d_ff": 64, "d_kv": 32, "d_model": WIDTH, "num_heads": 2, "num_layers": 2, "vocab_size": 32128}
QWEN = LLAMA | {"head_dim": 128, "vocab_size": 151936, "rms_norm_eps": 1e-6, "rope_theta": 1e6}


def with_the_hosts_encoder(node: Any, folder: Path) -> None:
    """The folder gets the weights and the words of the host's own text encoder, whose tensors have transformers' names."""
    import comfy.text_encoders as of_host

    t5 = folder.name == "pixart-sigma"
    model = node._clip.cond_stage_model
    encoder = model.t5xxl.transformer if t5 else model.qwen3_4b.transformer
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / part)
    (folder / "text_encoder").mkdir()
    state = {name: weight.contiguous().clone() for name, weight in encoder.state_dict().items()}
    save_file(state, folder / "text_encoder" / "model.safetensors")
    config = T5 | {"feed_forward_proj": "gated-gelu"} if t5 else QWEN
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config))
    words = Path(of_host.__path__[0]) / ("t5_tokenizer" if t5 else "qwen25_tokenizer")
    shutil.copytree(words, folder / "tokenizer")
    if not t5:
        (folder / "tokenizer" / "chat_template.jinja").write_text(tiny_transformers.CHAT)


@pytest.mark.parametrize("family", ["pixart-sigma", "z-image"])
def test_from_words_to_file_it_is_the_nodes(family: str, pack: ModuleType, tmp_path: Path) -> None:
    """The same text encoder and tokenizer too, each as its own program runs them: what is left is rounding."""
    node, folder = folder_of(tmp_path, family, family)
    with_the_hosts_encoder(node, folder)
    reader = open_reader(str(folder))
    ours, theirs = (one.encode(["a photo of a church", "a dog"]).tokens for one in (reader, node))
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()  # some processors round more than others
    assert not torch.allclose(ours[0], theirs[1], atol=1e-2)
    texts = ("", "a photo of", "a church")
    assert [reader.token_count(text) for text in texts] == [node.token_count(text) for text in texts]
    found = made(reader).entries
    for key, entry in made(node).entries.items():
        one, other = found[key].delta(), entry.delta()
        assert (one - other).norm() < 1e-2 * other.norm(), float((one - other).norm() / other.norm())


def test_a_file_of_the_command_line_goes_onto_the_graphs_model(pack: ModuleType, tmp_path: Path) -> None:
    """Without the warning of another model, and not onto another family."""
    from concept_eraser_pack.nodes.host import model as host_model

    node, folder = folder_of(tmp_path, "pixart-sigma")
    shutil.rmtree(folder / "text_encoder")
    tiny_transformers.t5(folder / "text_encoder", width=WIDTH)
    words = ["erase", "--method", "uce", "--model", str(folder), "--concept", "church", "--anchor", "castle"]
    assert main([*words, "--retain", "dog", "--out", str(tmp_path / "out")]) == 0
    erasure = load_erasure(tmp_path / "out" / "church.safetensors")
    patched = host_model.apply_erasure(node._model, erasure, 1.0, "church")
    assert erasure.base_hash == host_model.base_hash(host_model.weights(node._model))
    bare, after = (host_model.patched_weights(m, "xattn-kv") for m in (node._model, patched))
    assert set(erasure.entries) == set(bare) and not any(torch.equal(bare[k], after[k]) for k in bare)
    with pytest.raises(RequestError, match="made for a model of the family"):
        host_model.apply_erasure(model_of("wan"), erasure, 1.0, "church")
