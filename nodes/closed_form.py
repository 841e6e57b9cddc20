"""*Erase Concepts (closed form)*: an erasure that is solved for instead of trained."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import request_inputs
from .host import schema
from .host.schema import checked, node_schema
from .values import MethodChoice

CHOICES = {
    "UCE": MethodChoice("uce"),
    "UCE (current)": MethodChoice("uce", {"preset": "current"}),
    "UCE (paper)": MethodChoice("uce", {"preset": "paper"}),
    "TIME": MethodChoice("time"),
    "Double Projections": MethodChoice("dp"),
}


class EraseClosedForm(io.ComfyNode):
    """Erases concepts from a MODEL in seconds, saves the erasure and hands it on. There is no hidden prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "EraseClosedForm",
            "Erase Concepts (closed form)",
            "Makes a model unable to draw a concept in seconds: solves for the change of how texts are read instead of "
            "training it. Saves the erasure as a LoRA file in output/loras. No hidden prompt: Train Concept Eraser has one.",
            _inputs(),
            [
                io.Model.Output(display_name="MODEL", tooltip="The sanitized model, built from the tensors as saved."),
                schema.Erasure.Output(display_name="CONCEPT_ERASURE", tooltip="The erasure, for Apply Sanitized UNet."),
                schema.LoraModel.Output(display_name="LORA_MODEL", tooltip="The same tensors for core LoRA nodes."),
            ],
            aliases=(*schema.ALIASES, "uce", "time", "double projections", "edit", "fast", "nsfw", "safety"),
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(
        cls, model: Any, clip: Any, method: str, settings: MethodChoice | None = None, **values: Any
    ) -> io.NodeOutput:
        from .closed_form_run import solve  # not at start: it brings pydantic, which costs the host's start 0.2 s

        choice = settings or CHOICES[method]
        outputs, said = solve(model, clip, choice, values, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(*outputs, ui={"text": (said,)})


def _inputs() -> list[Any]:
    return [
        *request_inputs.network(),
        schema.Method.Input(
            "settings",
            optional=True,
            tooltip="UCE Settings, TIME Settings or Double Projections Settings; wins over method.",
        ),
        *request_inputs.words(),
        io.String.Input(
            "retain",
            multiline=True,
            default="",
            tooltip="What must stay as it is, one a line (TIME does not use it). " + request_inputs.EMPTY_RETAIN,
        ),
        io.Combo.Input(
            "method",
            options=list(CHOICES),
            default="UCE",
            tooltip="UCE weighs erasing against retaining, (paper) with the paper's own weights. TIME retains nothing in "
            "particular. Double Projections holds what is retained exactly.",
        ),
        request_inputs.precision(),
        request_inputs.filename_prefix(),
    ]
