"""*Erase Concepts (closed form)*: an erasure that is solved for instead of trained."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from eraser_core.precision import DTYPES

from . import schema
from .schema import field, node_schema
from .values import MethodChoice

CHOICES = {
    "UCE": MethodChoice("uce"),
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
    def execute(
        cls, model: Any, clip: Any, method: str, settings: MethodChoice | None = None, **values: Any
    ) -> io.NodeOutput:
        from .closed_form_run import solve  # not at start: it brings pydantic, which costs the host's start 0.2 s

        choice = settings or CHOICES[method]
        return io.NodeOutput(*solve(model, clip, choice, values, str(cls.hidden.unique_id or "")))


def _inputs() -> list[Any]:
    advanced = {"advanced": True}
    return [
        io.Model.Input("model", tooltip="The model to erase from: SD1.x, SD2.x, SDXL or pocket. It is not changed."),
        io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
        schema.Method.Input(
            "settings",
            optional=True,
            tooltip="UCE Settings, TIME Settings or Double Projections Settings; wins over method.",
        ),
        io.String.Input(
            "concepts",
            multiline=True,
            default="church",
            tooltip="What to erase, one concept a line. Synonyms after a bar: church | chapel",
        ),
        io.String.Input(
            "anchor",
            multiline=True,
            default="",
            tooltip="What is drawn instead, one a line in the same order, such as castle. Empty: the nearest concept to "
            "retain is chosen.",
        ),
        io.String.Input(
            "retain",
            multiline=True,
            default="",
            tooltip="What must stay as it is, one a line (TIME does not use it). Empty on the pocket model: half of what it "
            "draws.",
        ),
        io.Combo.Input(
            "method",
            options=list(CHOICES),
            default="UCE",
            tooltip="UCE weighs erasing against retaining, (paper) with the paper's own weights. TIME retains nothing in "
            "particular. Double Projections holds what is retained exactly.",
        ),
        field(
            io.Combo.Input,
            "precision",
            options=list(DTYPES),
            default="fp16",
            tooltip="Precision of the saved file, and so of the sanitized model.",
            **advanced,
        ),
        field(
            io.String.Input,
            "filename_prefix",
            default="loras/erased",
            tooltip="Where the erasure is saved, below ComfyUI's output folder. Files in output/loras appear in LoRA lists.",
            **advanced,
        ),
    ]
