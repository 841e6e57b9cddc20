"""The shipped CLIP vocabulary gives transformers' token ids, and folders with a tokenizer of their own are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from eraser_core.backends.clip_tokens import END, START, folder_tokens, shipped_tokens, vocabulary
from eraser_core.errors import ModelError

TEXTS = (
    "a church",
    "",
    "a photo of Kelly McKernan's caf\u00e9, 1999!!",
    "  two   words\n",
    "\u6559\u4f1a \u00fc",
    "x " * 100,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words, merges = vocabulary()
    path = tmp_path_factory.mktemp("tokenizer")
    (path / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    return path


def test_ids_are_transformers(folder: Path) -> None:
    ours, theirs = shipped_tokens(), CLIPTokenizer.from_pretrained(folder)
    for text in TEXTS:
        wanted = theirs(text, padding="max_length", truncation=True, max_length=77).input_ids
        assert ours.ids([text], ours.end)[0].tolist() == wanted, text
        assert folder_tokens(folder).ids([text], 49407)[0].tolist() == wanted, text
    assert ours.ids(["a dog"], 0)[0, 4:].tolist() == [0] * 73
    assert (ours.count("a church"), ours.count("")) == (3, 1)


def test_ids_known_from_the_published_tokenizer() -> None:
    assert shipped_tokens().ids(["a photo of a cat"], 49407)[0, :7].tolist() == [
        49406,
        320,
        1125,
        539,
        320,
        2368,
        49407,
    ]
    words, merges = vocabulary()
    assert (len(words), len(merges), words[START], words[END]) == (49408, 48894, 49406, 49407)


def test_a_tokenizer_json_is_read_and_an_empty_folder_named(folder: Path, tmp_path: Path) -> None:
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    if (tmp_path / "tokenizer.json").is_file():
        wanted = shipped_tokens().ids(TEXTS, 49407)
        assert (folder_tokens(tmp_path).ids(TEXTS, 49407) == wanted).all()
    with pytest.raises(ModelError, match="holds no CLIP tokenizer"):
        folder_tokens(tmp_path / "nowhere")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        folder_tokens(tmp_path / "bad")
