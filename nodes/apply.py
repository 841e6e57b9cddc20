"""Erasures on a MODEL: load, apply, read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io, ui

from eraser_core.erasure import Erasure, load_erasure, not_loaded
from eraser_core.errors import RequestError

from .host import folders, schema
from .host import model as host_model
from .host.preview import say
from .host.schema import checked, node_schema
from .run_words import stored

FROM_SOCKET = "(from the socket)"
NONE = "(none)"


def erasure_combo(name: str, tooltip: str, also: tuple[str, ...] = ()) -> Any:
    """A list of LoRA files."""
    return io.Combo.Input(name, options=[*also, *folders.names(folders.LORAS)], tooltip=tooltip)


def load_listed(name: str, hidden: Any = None) -> Erasure:
    """The erasure of this name in the LoRA list; `hidden` is the node's, for the message when there is none."""
    return load_erasure(folders.find(folders.LORAS, name, hidden))


class ApplySanitizedUNet(io.ComfyNode):
    """Puts an erasure on a MODEL as patches, with a strength; several stack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "ApplySanitizedUNet",
            "Apply Sanitized UNet",
            "Applies an erasure to a model: the concept can no longer be drawn. Several of these nodes stack. Raises an "
            "error when the erasure was made for another kind of model, instead of doing nothing.",
            [
                io.Model.Input("model", tooltip="The model that the erasure was made for. It is not changed."),
                erasure_combo(
                    "erasure_name",
                    "An erasure file from the LoRA folders, or the one from the socket.",
                    (FROM_SOCKET,),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10,
                    max=10,
                    step=0.05,
                    tooltip="1 is as trained, 0 is not at all. A little more erases harder and costs other concepts.",
                ),
                schema.Erasure.Input(
                    "erasure", optional=True, tooltip="From Train Concept Eraser or Load Erasure; wins over the file."
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP of the same checkpoint. With it the node says whether several erasures together harm "
                    "other words, before a picture is drawn.",
                ),
            ],
            [io.Model.Output(display_name="MODEL", tooltip="The sanitized model.")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, erasure_name: str = FROM_SOCKET, **_: Any) -> str:
        return folders.file_hash(folders.LORAS, erasure_name)

    @classmethod
    def validate_inputs(cls, erasure_name: str = "") -> bool | str:
        return True  # a missing file is explained by execute, with where to put it

    @classmethod
    @checked
    def execute(
        cls, model: Any, erasure_name: str, strength: float, erasure: Erasure | None = None, clip: Any = None
    ) -> io.NodeOutput:
        source = "socket"
        if erasure is None:
            if erasure_name in ("", FROM_SOCKET):
                raise RequestError("choose an erasure file, or connect Train Concept Eraser or Load Erasure")
            erasure, source = load_listed(erasure_name, cls.hidden), erasure_name
        applied = host_model.apply_erasure(model, erasure, strength, source)
        text = "\n".join(_to_say(erasure, applied, clip))
        if text:
            say(text, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(applied)


def _to_say(erasure: Erasure, applied: Any, clip: Any) -> list[str]:
    """The register that the erasure carries out, and what it harms beside those that the MODEL carries already."""
    from eraser_core.optout.said import optout_of  # not at start: it brings pydantic

    register = optout_of(erasure.facts)
    lines = [f"opt-outs: {register}"] if register else []
    carried = host_model.stack_of(applied)
    if len(carried) > 1 and clip is None:
        lines.append(
            f"{len(carried)} erasures together may harm the rest. Connect clip to be told, or use Combine Erasures"
        )
    elif len(carried) > 1:
        from eraser_core.many.harm import stacked

        from .host.unloaded import UnloadedDenoiser

        with torch.inference_mode(False), torch.no_grad():
            denoiser = UnloadedDenoiser(host_model.unpatched(applied), clip)
            lines.append(stacked(denoiser, [e for e, _ in carried], [s for _, s in carried]))
    return [line for line in lines if line]


class LoadErasure(io.ComfyNode):
    """An erasure file as a value."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "LoadErasure",
            "Load Erasure",
            "Reads an erasure file from the LoRA folders. (A stock LoRA loader applies the same file.)",
            [erasure_combo("erasure_name", "An erasure file from the LoRA folders.")],
            [
                schema.Erasure.Output(
                    display_name="CONCEPT_ERASURE", tooltip="For Apply Sanitized UNet or Erasure Info."
                )
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, erasure_name: str = "", **_: Any) -> str:
        return folders.file_hash(folders.LORAS, erasure_name)

    @classmethod
    def validate_inputs(cls, erasure_name: str = "") -> bool | str:
        return True

    @classmethod
    @checked
    def execute(cls, erasure_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_listed(erasure_name, cls.hidden))


class ErasureInfo(io.ComfyNode):
    """What an erasure's file says of itself, and which erasures a MODEL carries, in words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "ErasureInfo",
            "Erasure Info",
            "Shows what an erasure erases, how it was made and for which base model, and which erasures a model carries.",
            [
                schema.Erasure.Input("erasure", optional=True, tooltip="The erasure to describe."),
                io.Model.Input("model", optional=True, tooltip="The model whose erasures to list."),
            ],
            [io.String.Output(display_name="text", tooltip="For a text or preview node.")],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> str:
        return folders.figures_hash()  # an audit may have been added since

    @classmethod
    @checked
    def execute(cls, erasure: Erasure | None = None, model: Any = None) -> io.NodeOutput:
        if erasure is None and model is None:
            raise RequestError("connect an erasure, a model, or both")
        lines = [] if erasure is None else describe(erasure)
        if model is not None:
            lines += describe_model(model, erasure)
        text = "\n".join(lines)
        say(text, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(text, ui=ui.PreviewText(text))


def describe(erasure: Erasure) -> list[str]:
    """Facts of an erasure, one a line."""
    from eraser_core.optout.said import optout_of  # not at start: it brings pydantic

    facts = erasure.facts
    register = optout_of(facts)
    audit = _audit(erasure)
    targets = json.loads(facts.get("erasure.targets", "[]"))
    anchors = json.loads(facts.get("erasure.anchor", "[]"))
    retain = json.loads(facts.get("erasure.retain", "[]"))
    numbers = sum(tensor.numel() for tensor in erasure.tensors().values())
    shown = ", ".join(retain[:8]) + (f" and {len(retain) - 8} more" if len(retain) > 8 else "")
    return [
        *(
            f"erased: {t}, drawn instead: {a or '(nothing in particular)'}"
            for t, a in zip(targets, anchors, strict=False)
        ),
        f"retained: {shown or 'nothing was named'}",
        f"method: {facts.get('erasure.method', '?')} ({facts.get('erasure.paper', '?')})",
        *([f"opt-outs: {register}"] if register else []),
        *([f"audit: {audit}"] if audit else []),
        f"made for: {erasure.family}, base {erasure.base_hash[:12]}",
        f"size: {len(erasure.entries)} weights, {numbers:,} numbers",
        *stored(erasure),
        *([not_loaded(erasure)] if not_loaded(erasure) else []),
        f"hash: {erasure.hash()}",
    ]


def _audit(erasure: Erasure) -> str:
    """The verdict of the audit that lies beside a listed file of this erasure; "" where there is none."""
    from eraser_core.evaluation.report.sidecar import audit_verdict  # not at start: the suites bring all metrics along

    own = erasure.hash()
    return next((said for path in folders.with_figures() if (said := audit_verdict(path, own))), "")


def describe_model(model: Any, erasure: Erasure | None) -> list[str]:
    """What a MODEL carries, and whether an erasure was made for its base."""
    lines = [
        f"this model carries: {', '.join(json.loads(r.targets))} ({r.method}, strength {r.strength:g}, "
        f"{Path(r.source).name}, {r.hash[:12]})"
        for r in host_model.carried(model)
    ] or ["this model carries no erasure that was applied by Apply Sanitized UNet or Train Concept Eraser"]
    if erasure is not None:
        same = host_model.base_hash(host_model.weights(model)) == erasure.base_hash
        lines.append(f"the erasure was made for {'this very' if same else 'another'} base model")
    return lines
