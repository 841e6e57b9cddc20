"""Files of many erasures: what is read to be combined, and what a combination is written as."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..denoiser import Denoiser
from ..erasure import load_erasure
from ..errors import FileFormatError, RequestError
from ..files import read_metadata
from ..hidden_prompt import SCHEMA as PROMPT_SCHEMA
from ..hidden_prompt import HiddenPrompt, load_prompts, save_prompts
from .combine import Combined, Source, source

PRIVATE = "private"


def listed(paths: Sequence[Path]) -> list[Path]:
    """The files named, and of each folder its .safetensors files in the order of their names.

    Hidden prompts in a folder are passed over. RequestError where a folder holds no erasure or a file is missing.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.glob("*.safetensors")) if not is_prompt(p)]
            if not inside:
                raise RequestError(f"{path} holds no erasure: give a folder of .safetensors files, or the files")
            found += inside
        else:
            found.append(path)
    return found


def is_prompt(path: Path) -> bool:
    """Whether a file is a hidden prompt, by its header."""
    return read_metadata(path).get("hidden_prompt.schema") == PROMPT_SCHEMA


def load_sources(paths: Sequence[Path]) -> list[Source]:
    """The erasures in these files and folders; RequestError where one is given twice or says no concept."""
    sources: list[Source] = []
    known: dict[str, Path] = {}
    for path in listed(paths):
        found = source(str(path), load_erasure(path))
        first = known.setdefault(found.hash, path)
        if first != path or any(one.name == str(path) for one in sources):
            raise RequestError(f"{path} and {first} are the same erasure: give it once")
        sources.append(found)
    return sources


def prompts_of(sources: Sequence[Source], files: Sequence[Path]) -> list[list[HiddenPrompt]]:
    """The hidden prompts of each source, () where its file was not given; FileFormatError where one belongs to none."""
    by_hash = {one.hash: i for i, one in enumerate(sources)}
    found: list[list[HiddenPrompt]] = [[] for _ in sources]
    for path in files:
        prompts, metadata = load_prompts(path)
        place = by_hash.get(metadata["hidden_prompt.erasure_hash"])
        if place is None:
            raise FileFormatError(f"{path} belongs to none of the erasures given: add its erasure, or leave it out")
        found[place] = prompts
    return found


def save_combined(out: Path, name: str, found: Combined, denoiser: Denoiser) -> list[str]:
    """Write the erasure, and the joint key file where there are prompts; the names written."""
    names = [f"{name}.safetensors"]
    if found.prompts:
        key = out / PRIVATE / f"{name}_hidden_prompts.safetensors"
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = {"hidden_prompt.family": denoiser.family, "hidden_prompt.base_hash": denoiser.base_hash}
        # The prompts were solved for: no seed gives them again.
        save_prompts(key, found.prompts, 0, found.erasure.hash(), facts)
        names.append(f"{PRIVATE}/{key.name}")
    found.erasure.save(out / names[0])
    return names
