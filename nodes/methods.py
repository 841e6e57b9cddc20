"""The small settings nodes that feed the METHOD socket, one a method."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .schema import Method, field, node_schema
from .values import MethodChoice

BY_MODEL = -1.0


class KPOPSettings(io.ComfyNode):
    """KPOP: erasing with a learnable prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        advanced = {"advanced": True}
        return node_schema(
            "KPOPSettings",
            "KPOP Settings",
            "How KPOP erases: what becomes of the hidden prompt, how fast both learn, and where its pictures come from. "
            "Values of -1 are what suits the model.",
            [
                io.Combo.Input(
                    "mechanism",
                    options=["concatenative", "additive"],
                    default="concatenative",
                    tooltip="How the hidden prompt joins a text: as further tokens, or added to its tokens.",
                ),
                io.Float.Input(
                    "lambda_",
                    display_name="lambda",
                    default=BY_MODEL,
                    min=-1,
                    max=10,
                    step=0.05,
                    tooltip="How much it counts that the hidden prompt brings the concept back. 0 erases for good measure "
                    "but the prompt recovers little; -1 is what suits the model.",
                ),
                io.Int.Input(
                    "k",
                    default=-1,
                    min=-1,
                    max=200,
                    tooltip="Tokens of the hidden prompt (concatenative only). -1 is what suits the model.",
                ),
                _rate("eta", "Learning rate of the UNet. -1 is what suits the model."),
                _rate("eta_p", "Learning rate of the hidden prompt. -1 is what suits the model."),
                io.Float.Input(
                    "guidance",
                    default=BY_MODEL,
                    min=-1,
                    max=20,
                    step=0.5,
                    tooltip="Guidance scale (at least 1) of the pictures that are learnt from. -1 is what suits the model.",
                ),
                io.Float.Input(
                    "retain_weight",
                    default=BY_MODEL,
                    min=-1,
                    max=100,
                    step=0.1,
                    tooltip="How much it counts that retained concepts stay as they are. 0 is not at all; -1 is what suits "
                    "the model, and 1 where concepts to retain were named.",
                ),
                field(
                    io.Combo.Input,
                    "recovery_target",
                    options=["erased", "neutral"],
                    default="erased",
                    tooltip="What the text with the hidden prompt is trained towards: the erased concept (the paper's "
                    "equation 8), or the neutral one, with which nothing is recovered.",
                    **advanced,
                ),
                field(
                    io.Combo.Input,
                    "latents",
                    options=["pool", "fresh"],
                    default="pool",
                    tooltip="Half-finished pictures from a pool, each used many times, or made anew for every step as the "
                    "authors do (many times slower).",
                    **advanced,
                ),
                field(
                    io.Combo.Input,
                    "latents_from",
                    options=["frozen", "edited"],
                    default="frozen",
                    tooltip="Which network makes those pictures: the untouched one, or the one being edited.",
                    **advanced,
                ),
                field(
                    io.Combo.Input,
                    "optimizer",
                    options=["adam", "sgd"],
                    default="adam",
                    tooltip="Adam, or the plain gradient steps of the paper's equations.",
                    **advanced,
                ),
                field(
                    io.Boolean.Input,
                    "null_space",
                    default=False,
                    tooltip="With tune = text only: change texts only where the retained ones have nothing.",
                    **advanced,
                ),
            ],
            [Method.Output(display_name="METHOD", tooltip="Connect to Train Concept Eraser.")],
        )

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        values["lambda"] = values.pop("lambda_")
        given = {name: value for name, value in values.items() if value != BY_MODEL}
        return io.NodeOutput(MethodChoice("kpop", given))


def _rate(name: str, tooltip: str) -> Any:
    return io.Float.Input(name, default=BY_MODEL, min=-1, max=1, step=1e-6, round=False, tooltip=tooltip)
