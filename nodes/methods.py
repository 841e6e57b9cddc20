"""The small settings nodes that feed the METHOD socket, one a method: those that train on prompts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.schema import auto, checked, field, node_schema
from .method_inputs import (
    BY_MODEL,
    RATE,
    RETAIN,
    chosen,
    confine,
    count,
    latents,
    later,
    output,
    overshoot,
    rate,
    weight,
)


class KPOPSettings(io.ComfyNode):
    """KPOP: erasing with a learnable prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        advanced: dict[str, Any] = {"advanced": True}
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
                auto(
                    io.Float.Input,
                    "lambda_",
                    BY_MODEL,
                    "lambda",
                    min=-1,
                    max=10,
                    step=0.05,
                    tooltip="How much it counts that the hidden prompt brings the concept back. 0 erases for good measure "
                    "but the prompt recovers little. -1 is 0.1, for the pocket model 0.3.",
                ),
                auto(
                    io.Int.Input,
                    "k",
                    BY_MODEL,
                    min=-1,
                    max=200,
                    tooltip="Tokens of the hidden prompt (concatenative only). -1 is 10, for the pocket model 8.",
                ),
                rate("eta", f"{RATE} -1 is 0.0001 with a rank and 0.00001 without, for the pocket model 0.0002."),
                rate(
                    "eta_p",
                    "Learning rate of the hidden prompt. -1 is 0.00001, for the pocket model 0.02, for the flow-matching one 0.05.",
                ),
                auto(
                    io.Float.Input,
                    "guidance",
                    BY_MODEL,
                    min=-1,
                    max=20,
                    step=0.5,
                    tooltip="Guidance scale (at least 1) of the pictures that are learnt from. -1 is 3, for Flux and Z-Image 1.",
                    **advanced,
                ),
                auto(io.Float.Input, "retain_weight", BY_MODEL, min=-1, max=100, step=0.1, tooltip=RETAIN, **advanced),
                field(
                    io.Combo.Input,
                    "recovery_target",
                    options=["erased", "neutral"],
                    default="erased",
                    tooltip="What the text with the hidden prompt is trained towards: the erased concept (the paper's "
                    "equation 8), or the neutral one, with which nothing is recovered.",
                    **advanced,
                ),
                latents(),
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
                overshoot("0.5 for one concept. It is 0 for several, and with opens"),
                later(
                    "opens",
                    "How much it counts that other texts stay as they are with the hidden prompt. With 0 it paints its "
                    "concept over them, as in the paper. With 1, lambda 1 and mechanism additive it brings the model back. -1 is 0.",
                    most=100,
                ),
                confine("2. It is 0 for one concept with opens"),
            ],
            [output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        values["lambda"] = values.pop("lambda_")
        return io.NodeOutput(chosen("kpop", values))


class ESDSettings(io.ComfyNode):
    """ESD: pushes the concept's prediction away from itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "ESDSettings",
            "ESD Settings",
            "Erases by negative guidance (Gandikota et al.). No hidden prompt. Values of -1 are what suits the model.",
            [
                rate("eta", f"{RATE} -1 is 0.0001 with a rank and 0.00005 without, for the pocket model 0.0002."),
                weight("negative_guidance", "How far the prediction is pushed from the concept. -1 is the authors' 2."),
                weight(
                    "guidance",
                    "Guidance scale (at least 1) of the pictures that are learnt from. -1 is 3, for Flux and Z-Image 1.",
                ),
                weight("retain_weight", RETAIN),
                latents(),
                confine("0"),
            ],
            [output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(chosen("esd", values))


class CASettings(io.ComfyNode):
    """Concept Ablation: pictures of the anchor teach what the concept is to look like."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "CASettings",
            "CA Settings",
            "Erases by making the concept look like its anchor in generated pictures of it (Kumari et al.). No hidden "
            "prompt. Values of -1 are what suits the model.",
            [
                rate("eta", f"{RATE} -1 is 0.0001 with a rank and 0.000008 without, for the pocket model 0.00006."),
                count("anchor_images", "Pictures of the anchor that are generated first. -1 is the authors' 200."),
                weight(
                    "anchor_guidance",
                    "Guidance scale (at least 1) of those pictures. -1 is the authors' 6, for Flux and Z-Image 1.",
                ),
                weight("retain_weight", RETAIN),
                overshoot("0"),
                confine("0"),
            ],
            [output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(chosen("ca", values))
