"""Damaged files: every one is refused in words, or does no harm.

`python -m pytest tests/files/test_fuzz.py -m slow` tries 2,000 of them and prints what became of each kind.
"""

from __future__ import annotations

import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mutations import mutate, without_hash
from safetensors.torch import load
from tiny_model import settings
from torch import Tensor

from eraser_core import records
from eraser_core.backends.pocket import PocketDenoiser
from eraser_core.commands import folder, loading
from eraser_core.commands.arguments import build_parser
from eraser_core.commands.erase import _request
from eraser_core.erasing import erase, resume
from eraser_core.erasure import check_fits, load_erasure
from eraser_core.errors import EraserError, FileFormatError
from eraser_core.evaluation.examiner import Examiner
from eraser_core.evaluation.suites.manifest import claim
from eraser_core.files import write_bytes
from eraser_core.hidden_prompt import load_prompts, save_prompts
from eraser_core.methods import METHODS
from eraser_core.models import Model
from eraser_core.pocket import load_concepts
from eraser_core.request import Request, Target

ORDINARY, ALL = 20, 134  # mutations of each file: 300 in the ordinary run, 2,010 with -m slow
SECONDS, BYTES = 20.0, 1 << 30  # one file may take this long and this much more memory, the forward included


@dataclass(frozen=True)
class Reader:
    """A kind of file, and what its user does with it; `use` gives numbers that must be finite."""

    name: str
    use: Callable[[Path], Tensor]


@pytest.fixture(scope="module")
def readers(tiny: PocketDenoiser) -> dict[str, Reader]:
    z = torch.randn(1, *tiny.latent_shape, generator=torch.Generator().manual_seed(0))
    t, context = torch.tensor([500]), tiny.encode(["a church"])

    def forward(path: Path) -> Tensor:
        erasure = load_erasure(path)
        check_fits(erasure, "pocket", tiny.all_weights())
        with torch.no_grad():
            return tiny.predict(z, t, context, erasure.as_edit())

    def with_prompt(path: Path) -> Tensor:
        prompts, _ = load_prompts(path)
        with torch.no_grad():
            return torch.cat([tiny.predict(z, t, prompt.extend(context)) for prompt in prompts])

    def gone_on(path: Path) -> Tensor:
        result = resume(tiny, METHODS, path)
        return torch.cat([tensor.flatten().float() for tensor in result.erasure.tensors().values()])

    def sidecar(path: Path) -> Tensor:
        records.read(records.SidecarRecord, records.read_json(path), path)
        return torch.zeros(1)

    def manifest(path: Path) -> Tensor:
        claim(path.parent, MANIFEST, force=True)
        return torch.zeros(1)

    def arguments(path: Path) -> Tensor:
        write_bytes(path.parent / folder.CHECKPOINT, b"")
        args = folder.resumed(build_parser().parse_args(["erase", "--resume", str(path.parent)]))
        loading.loading(args)
        _request(args, Model(tiny, Examiner(tiny, tiny.decode, None, guidance=3.0, steps=3), load_concepts()))
        return torch.zeros(1)

    found = {"erasure": forward, "low rank": forward, "prompt": with_prompt, "checkpoint": gone_on}
    found |= {"sidecar": sidecar, "manifest": manifest, "run": arguments}
    return {name: Reader(name, use) for name, use in found.items()}


RUN = ["erase", "--concept", "church", "--anchor", "castle", "--retain", "dog", "--steps", "3", "--eta", "0.1"]
MANIFEST = {"schema": "concept-eraser-suite-1", "suite": "pocket", "models": {"untouched": {"batches": [[0, 1], [2]]}}}
CELLS = {"ESR-1": {"text": "97.0", "value": 0.97}}
TABLE = {
    "title": "objects",
    "columns": ["ESR-1"],
    "rows": [{"name": "kpop", "cells": CELLS, "quoted": False}],
    "note": "",
}
SIDECAR = {
    "schema": "concept-eraser-evaluation-1",
    "erasure_hash": "0" * 64,
    "suites": {"pocket": {"tables": [TABLE], "grid": "e.evaluation.pocket.png", "suite seed": 0}},
}
FILE = {"manifest": "manifest.json", "sidecar": "e.evaluation.json", "run": folder.RUN}


@pytest.fixture(scope="module")
def files(tiny: PocketDenoiser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes]]:
    """One whole file of every kind, by a name for the case: (its reader, its bytes)."""
    where = tmp_path_factory.mktemp("whole")
    asked = Request((Target("a church", "a castle"), Target("a dog", "a cat")))
    dense = erase(tiny, asked, METHODS["kpop"], settings(retain_weight=0), key_seed=1)
    dense.erasure.save(where / "dense")
    save_prompts(where / "prompt", dense.prompts, 1, dense.erasure.hash(), {})
    chosen = settings(retain_weight=0, rank=2)
    erase(tiny, asked, METHODS["kpop"], chosen, key_seed=1, checkpoint=where / "checkpoint").erasure.save(where / "low")
    whole = {name: (where / name).read_bytes() for name in ("dense", "low", "prompt", "checkpoint")}
    folder.keep_arguments(where, build_parser().parse_args(RUN))
    text = {"sidecar": SIDECAR, "manifest": MANIFEST, "run": json.loads((where / folder.RUN).read_bytes())}
    return {
        "erasure": ("erasure", whole["dense"]),
        "low rank": ("low rank", whole["low"]),
        "prompt": ("prompt", whole["prompt"]),
        "checkpoint": ("checkpoint", whole["checkpoint"]),
        **{name: (name, json.dumps(value).encode("utf-8")) for name, value in text.items()},
        **{
            f"{name}, no hash": (name, without_hash(whole[file]))
            for name, file in {"erasure": "dense", "low rank": "low", "prompt": "prompt"}.items()
        },
    }


def outcomes(reader: Reader, whole: bytes, where: Path, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """(what was done, what became of it) of `count` damaged files; "refused" and "harmless" are the good ends."""
    rng = random.Random(f"{seed} {reader.name} {len(whole)}")
    for i in range(count):
        done, data = mutate(whole, rng)
        folder_of_one = where / f"{i}"
        folder_of_one.mkdir()
        path = folder_of_one / FILE.get(reader.name, "file.safetensors")
        path.write_bytes(data)
        yield done, _outcome(reader, path)


def _outcome(reader: Reader, path: Path) -> str:
    begun, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        numbers = reader.use(path)
    except EraserError as error:
        end = "refused" if str(error) and "\n" not in str(error) else f"no sentence: {error}"
    except Exception as error:  # what the test is about
        return f"raw {type(error).__name__}: {error}"
    else:
        end = "harmless" if bool(numbers.isfinite().all()) else "not finite"
    if time.monotonic() - begun > SECONDS:
        return "slow"
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
    return end if more < BYTES else f"took {more >> 20} MB"


CASES = ["erasure", "low rank", "prompt", "checkpoint", "sidecar", "manifest", "run"]
CASES += ["erasure, no hash", "low rank, no hash", "prompt, no hash"]


def check(readers: dict[str, Reader], files: dict[str, tuple[str, bytes]], case: str, where: Path, count: int) -> None:
    name, whole = files[case]
    found = list(outcomes(readers[name], whole, where, count, seed=0))
    bad = [(done, end) for done, end in found if end not in ("refused", "harmless")]
    print(case, dict(Counter(end if end in ("refused", "harmless") else "bad" for _, end in found)))
    assert not bad, f"{len(bad)} of {len(found)}: {bad[:3]}"


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_refused_or_harmless(readers, files, case, tmp_path):
    check(readers, files, case, tmp_path, ORDINARY)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_thousand_damaged_files_are_refused_or_harmless(readers, files, case, tmp_path):
    check(readers, files, case, tmp_path, ALL + ALL // 2)


@pytest.mark.parametrize("case", CASES)
def test_a_whole_file_is_read(readers, files, case, tmp_path):
    name, whole = files[case]
    path = tmp_path / FILE.get(name, "file.safetensors")
    path.write_bytes(whole)
    assert _outcome(readers[name], path) == "harmless"


def test_a_reader_that_checks_nothing_fails(tiny, files, tmp_path):
    """The control: with safetensors alone between the file and the network, the same damage does get through."""

    def unchecked(path: Path) -> Tensor:
        tensors = load(path.read_bytes())
        return torch.cat([tensor.flatten().float() for tensor in tensors.values()])

    _, whole = files["erasure"]
    ends = [end for _, end in outcomes(Reader("erasure", unchecked), whole, tmp_path, 60, seed=0)]
    assert any(end.startswith("raw") for end in ends) and "not finite" in ends


WRONG = [("concept", 7), ("steps", "many"), ("setting_eta", 0.1), ("dtype", "fp8"), ("images", True), ("model", None)]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_argument_of_another_type_is_named_with_its_file(files, tmp_path, name, value):
    said = {**json.loads(files["run"][1]), name: value}
    (tmp_path / folder.RUN).write_text(json.dumps(said), encoding="utf-8")
    write_bytes(tmp_path / folder.CHECKPOINT, b"")
    with pytest.raises(FileFormatError, match=rf"run\.json is damaged: {name} .*--force"):
        folder.resumed(build_parser().parse_args(["erase", "--resume", str(tmp_path)]))


def test_every_argument_of_erase_has_a_type():
    kept = vars(build_parser().parse_args(RUN)).keys() - folder.NOT_KEPT
    assert {name for name in kept if not name.startswith("setting_")} == set(records.RunRecord.model_fields)


def test_one_flipped_bit_in_the_tensors_is_seen(files, tmp_path):
    _, whole = files["erasure"]
    (tmp_path / "e.safetensors").write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(EraserError, match="hash that it names"):
        load_erasure(tmp_path / "e.safetensors")
