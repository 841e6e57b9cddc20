"""Wrong calls of every node (bad_nodes.py): one clear sentence that names the input, and nothing written."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import bad_nodes
import graphs
import pytest
import small_models
import torch
from bad_nodes import GOOD, ROWS, USED_BY, Bad, Given, Left
from safetensors.torch import save_file

from eraser_core.erasure import Erasure, load_erasure
from eraser_core.errors import EraserError
from eraser_core.evaluation.report.sidecar import SCHEMA
from eraser_core.hidden_prompt import HiddenPrompt

PREFIX = "ConceptEraser_"
LONGEST = 700  # characters that somebody still reads


class Refused(Exception):
    """The host's own validation said no."""


class Judge:
    """Calls nodes as the host does, with what their wires carry, and looks at the disk before and after."""

    def __init__(self, host_nodes: ModuleType, kinds: dict[str, Any], objects: dict[str, Any], base: Path):
        self.host, self.kinds, self.objects, self.base = host_nodes, kinds, objects, base
        self.forwards = 0  # of the network, in the call that is judged

    def verdict(self, row: Bad) -> str:
        """What the user reads; AssertionError when it is no sentence about the input, or when something was written."""
        before, said, self.forwards = self.files(), "", 0
        try:
            self.call(row.node, GOOD[row.node] | row.changed)
        except (Refused, EraserError) as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(f"{row}: a raw {type(error).__name__}: {error}") from error
        after = self.files()
        if after != before:
            raise AssertionError(f"{row}: wrote {sorted(set(after.items()) ^ set(before.items()))}")
        if self.forwards:
            raise AssertionError(f"{row}: the network ran {self.forwards} times before the refusal")
        if row.said not in said:
            raise AssertionError(f"{row}: says {said!r}" if said else f"{row}: was accepted")
        if len(said) > LONGEST or "\n" in said or re.search(r"NoneType|Traceback|<class|0x", said):
            raise AssertionError(f"{row}: is no sentence for people: {said!r}")
        return said

    def call(self, node: str, inputs: dict[str, Any]) -> Any:
        """Validate as the host does, then execute, and for settings also the node that uses them."""
        inputs = {name: value for name, value in inputs.items() if not isinstance(value, Left)}
        inputs = self.validated(node, inputs)
        result = self.execute(node, {n: self.objects[v.name] if isinstance(v, Given) else v for n, v in inputs.items()})
        if node not in USED_BY:
            return result
        user, socket = USED_BY[node]
        objects = self.objects | {"these settings": result.args[0]}
        again = Judge(self.host, self.kinds, objects, self.base)
        return again.call(user, GOOD[user] | {socket: Given("these settings", "CONCEPT_ERASER_METHOD")})

    def validated(self, node: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs as the host's validation hands them on; Refused with its message."""
        import execution

        sources = {v.kind: f"source of {v.kind}" for v in inputs.values() if isinstance(v, Given)}
        for kind, name in sources.items():
            words = {"RETURN_TYPES": (kind,), "INPUT_TYPES": classmethod(lambda cls: {}), "FUNCTION": "none"}
            self.host.NODE_CLASS_MAPPINGS[name] = type("Source", (), words)
        prompt = {name: {"class_type": name, "inputs": {}} for name in sources.values()}
        literal = {n: [sources[v.kind], 0] if isinstance(v, Given) else v for n, v in inputs.items()}
        prompt["node"] = {"class_type": PREFIX + node, "inputs": literal}
        valid, errors, _ = asyncio.run(execution.validate_inputs("id", prompt, "node", {}))
        if not valid:
            raise Refused("; ".join(f"{e['message']}: {e['details']}" for e in errors))
        return {n: v if isinstance(v, Given) else literal[n] for n, v in inputs.items()}

    def execute(self, node: str, inputs: dict[str, Any]) -> Any:
        clone = self.kinds[PREFIX + node].PREPARE_CLASS_CLONE({})
        with torch.inference_mode():
            return clone.execute(**inputs)

    def files(self) -> dict[str, tuple[int, int]]:
        """Every file below the host's folder, with its size and time of change; and every folder."""
        found = ((path, path.stat()) for path in sorted(self.base.rglob("*")))
        return {
            str(path.relative_to(self.base)): (s.st_size, s.st_mtime_ns) if path.is_file() else (0, 0)
            for path, s in found
        }


@pytest.fixture(scope="module")
def judge(comfy: ModuleType, pack: ModuleType) -> Iterator[Judge]:
    import folder_paths
    from concept_eraser_pack.nodes.host.denoiser import HostDenoiser
    from concept_eraser_pack.nodes.registry import all_nodes

    kinds = {node.GET_SCHEMA().node_id: node for node in all_nodes()}
    known = dict(comfy.NODE_CLASS_MAPPINGS)
    comfy.NODE_CLASS_MAPPINGS.update(kinds)
    output = Path(folder_paths.get_output_directory())
    folder_paths.add_model_folder_path("loras", str(output / "loras"))  # as the host's main.py does
    model, clip, vae = comfy.CheckpointLoaderSimple().load_checkpoint(graphs.POCKET)
    judge = Judge(comfy, kinds, {"model": model, "clip": clip, "vae": vae, "nothing": None}, output.parent)
    made = judge.call("EraseClosedForm", {**GOOD["EraseClosedForm"], "filename_prefix": "loras/made"})
    erasure = made.args[1]
    judge.objects |= {"erasure": erasure, "erasure of sd1": replace(erasure, family="sd1")}
    judge.objects |= {
        "erasure of another base": replace(erasure, base_hash=64 * "0"),
        "erasure that says nothing": replace(erasure, facts={}),
        "erased model": made.args[0],
    }
    judge.objects |= models(model, vae) | texts(clip) | methods() | pictures() | prompts(erasure)
    write_loras(output / "loras", erasure)
    write_prompts(output / "hidden_prompts", erasure, judge.objects)
    (output / "loras" / "key.safetensors").write_bytes((output / "hidden_prompts" / "prompt.safetensors").read_bytes())
    forward = HostDenoiser.predict

    def counted(self: Any, *args: Any, **words: Any) -> Any:
        judge.forwards += 1
        return forward(self, *args, **words)

    HostDenoiser.predict = counted
    yield judge
    HostDenoiser.predict = forward
    comfy.NODE_CLASS_MAPPINGS.clear()
    comfy.NODE_CLASS_MAPPINGS.update(known)


def narrow(family: str, width: int, **more: Any) -> Any:
    """A MODEL of a family with few weights, whose texts have this width."""
    import comfy.model_base
    import comfy.model_patcher

    config = small_models.config(family, {"context_dim": width, **more})
    config.model_type = lambda state_dict, prefix="": comfy.model_base.ModelType.EPS
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(config.get_model({}, "", device=cpu), load_device=cpu, offload_device=cpu)


def models(pocket: Any, vae: Any) -> dict[str, Any]:
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (lcm,) = ModelSamplingDiscrete().patch(pocket, "lcm", False)
    other = SimpleNamespace(first_stage_model=vae.first_stage_model, latent_channels=4)
    empty = SimpleNamespace(first_stage_model=None)
    return {
        "sd1": narrow("sd1", 96),
        "sd1 with the pocket's texts": narrow("sd1", 192),
        "sdxl with the pocket's texts": narrow("sdxl", 192, adm_in_channels=192 + 6 * 256),
        "inpainting": narrow("sd1", 192, in_channels=9),
        "lcm": lcm,
        "vae of four channels": other,
        "empty vae": empty,
    }


def texts(clip: Any) -> dict[str, Any]:
    tokens, pooled = clip.encode_from_tokens(clip.tokenize("a church"), return_pooled=True)
    text = [[tokens, {"pooled_output": pooled}]]
    return {
        "text": text,
        "no text": [],
        "two texts": [*text, *text],
        "a region": [[tokens, {"area": (8, 8, 0, 0)}]],
        "wide text": [[torch.zeros(1, tokens.shape[1], 768), {}]],
        "short text": [[tokens[:, :3], {}]],
        "longer text": [[torch.cat([tokens, tokens[:, :2]], 1), {}]],
        "text without a pooled output": [[tokens, {}]],
    }


def methods() -> dict[str, Any]:
    from concept_eraser_pack.nodes.values import MethodChoice

    quick = {"latents": "fresh", "sampler_steps": 2, "guidance": 1.0, "retain_weight": 0.0}
    return {
        "one quick step": MethodChoice("kpop", quick),
        "no tokens": MethodChoice("kpop", {**quick, "k": 0}),
        "null space without texts": MethodChoice("kpop", {**quick, "null_space": True}),
    }


def pictures() -> dict[str, Any]:
    return {
        "pictures": torch.full((2, 32, 32, 3), 0.5),
        "no pictures": torch.zeros(0, 32, 32, 3),
        "one picture without a batch": torch.zeros(32, 32, 3),
        "a film": torch.zeros(1, 2, 32, 32, 3),
        "two channels": torch.zeros(1, 32, 32, 2),
        "no height": torch.zeros(1, 0, 32, 3),
        "not numbers": torch.full((1, 32, 32, 3), torch.nan),
    }


def prompts(erasure: Erasure) -> dict[str, Any]:
    from concept_eraser_pack.nodes.values import Prompts

    def of(*prompts: HiddenPrompt) -> Any:
        facts = {"hidden_prompt.family": "pocket", "hidden_prompt.base_hash": erasure.base_hash}
        return Prompts(prompts, 7, erasure.hash(), facts)

    church, guitar = (
        HiddenPrompt(f"a {name}", torch.ones(2, 192), "concatenative", 16) for name in ("church", "guitar")
    )
    return {
        "hidden prompt": of(church),
        "two prompts": of(church, guitar),
        "no prompts": of(),
        "prompt of another erasure": replace(of(church), erasure_hash=64 * "0"),
        "additive prompt": of(HiddenPrompt("a church", torch.ones(16, 192), "additive", 16)),
    }


def write_loras(folder: Path, erasure: Erasure) -> None:
    """Erasures, with figures beside some of them, and files that are none."""
    row = {"name": "church", "quoted": False, "cells": {"ESR-1": {"text": "90"}}}
    suite = {"tables": [{"title": "Objects", "columns": ["ESR-1 (up)"], "rows": [row], "note": ""}]}
    good = {"schema": SCHEMA, "erasure_hash": erasure.hash(), "suites": {"pocket": suite}}
    figures: dict[str, Any] = {
        "erasure": good,
        "unmeasured": None,
        "broken_json": "{",
        "another": {**good, "erasure_hash": 64 * "0"},
        "no_suites": {**good, "suites": {}},
        "half_a_table": {**good, "suites": {"pocket": {"tables": [{"title": "Objects"}]}}},
        "newer": {**good, "schema": "concept-eraser-evaluation-99"},
        "outside": {**good, "suites": {"pocket": {**suite, "grid": "../grid.png"}}},
    }
    for name, said in figures.items():
        erasure.save(folder / f"{name}.safetensors")
        if said is not None:
            text = said if isinstance(said, str) else json.dumps(said)
            (folder / f"{name}.evaluation.json").write_text(text, encoding="utf-8")
    replace(erasure, family="sd1").save(folder / "sd1.safetensors")
    content = (folder / "erasure.safetensors").read_bytes()
    (folder / "text.safetensors").write_bytes(b"a renamed text")
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "cut.safetensors").write_bytes(content[:-100])
    (folder / "damaged.safetensors").write_bytes(content[:-4] + b"\1\2\3\4")
    save_file(dict(erasure.tensors()), folder / "own_lora.safetensors")
    other = {"lora_unet_x.lora_up.weight": torch.ones(2, 1), "lora_unet_x.lora_down.weight": torch.ones(1, 2)}
    save_file(other, folder / "foreign.safetensors")
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, folder / "lora.safetensors")
    load_erasure(folder / "erasure.safetensors")


def write_prompts(folder: Path, erasure: Erasure, objects: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    objects["hidden prompt"].save(folder / "prompt.safetensors")
    objects["two prompts"].save(folder / "two.safetensors")
    erasure.save(folder / "erasure.safetensors")
    (folder / "text.safetensors").write_bytes(b"a renamed text")


@pytest.mark.parametrize("node", sorted(GOOD))
def test_wrong_calls_end_in_a_sentence_and_write_nothing(judge: Judge, node: str) -> None:
    faults = []
    for row in (row for row in ROWS if row.node == node):
        try:
            judge.verdict(row)
        except AssertionError as error:
            faults.append(str(error))
    assert not faults, "\n".join(faults)


def test_the_table_has_a_hundred_rows_and_every_node(judge: Judge) -> None:
    assert len(ROWS) >= 100
    assert {row.node for row in ROWS} >= {name.removeprefix(PREFIX) for name in judge.kinds}


CHEAP = sorted(set(GOOD) - {"NudeNetScore"})


@pytest.mark.parametrize("node", CHEAP)
def test_the_right_call_is_accepted(judge: Judge, node: str) -> None:
    """Otherwise every row of this node could be refused for the same wrong reason."""
    judge.call(node, GOOD[node])


@pytest.mark.parametrize("kind", ["raw", "written", "folder", "drawn", "accepted", "silent about the input"])
def test_the_judge_sees_what_must_not_happen(judge: Judge, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def raw(cls: Any, **_: Any) -> None:
        raise AttributeError("'NoneType' object has no attribute 'model'")

    def written(cls: Any, **_: Any) -> None:
        (judge.base / "output" / "loras" / "left_behind.safetensors").write_bytes(b"")
        raise EraserError("there is no file 'x'")

    def folder(cls: Any, **_: Any) -> None:
        (judge.base / "output" / "left_behind").mkdir()
        raise EraserError("there is no file 'x'")

    def drawn(cls: Any, **_: Any) -> None:
        judge.forwards += 1
        raise EraserError("there is no file 'x'")

    def accepted(cls: Any, **_: Any) -> None:
        return None

    def silent(cls: Any, **_: Any) -> None:
        raise EraserError("something is wrong")

    does: dict[str, Callable[..., None]] = {"raw": raw, "written": written, "accepted": accepted}
    does |= {"folder": folder, "drawn": drawn}
    monkeypatch.setattr(judge.kinds[PREFIX + "LoadErasure"], "execute", classmethod(does.get(kind, silent)))
    said = {"raw": "a raw AttributeError", "written": "left_behind", "accepted": "was accepted"}
    said |= {"folder": "left_behind", "drawn": "the network ran"}
    row = Bad("LoadErasure", {"erasure_name": "x"}, "there is no file")
    with pytest.raises(AssertionError, match=said.get(kind, "says")):
        judge.verdict(row)
    if kind == "folder":
        (judge.base / "output" / "left_behind").rmdir()
    (judge.base / "output" / "loras" / "left_behind.safetensors").unlink(missing_ok=True)


def test_settings_are_used_by_a_node_that_the_table_knows() -> None:
    assert set(USED_BY) == {name for name in GOOD if name.endswith("Settings")} and bad_nodes.LONG.count("church") > 16
