"""The settings nodes of the closed forms."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.schema import checked, node_schema
from .method_inputs import chosen, count, layers, output, overshoot, weight


class UCESettings(io.ComfyNode):
    """UCE: a closed form, solved in seconds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "UCESettings",
            "UCE Settings",
            "Erases by a closed form on keys and values (Gandikota et al.): seconds, no pictures needed, no hidden prompt. "
            "Values of -1 are the preset's.",
            [
                io.Combo.Input(
                    "preset",
                    options=["current", "paper", "moments"],
                    default="moments",
                    tooltip="moments: for one concept or many, keeps what nobody named. current, paper: the authors' code.",
                ),
                layers(),
                weight("l", "Weight of leaving the matrices as they are. -1 is the preset's."),
                weight("s_e", "Weight of erasing. -1 is 1."),
                weight("s_p", "Weight of preserving what is retained. -1 is the preset's."),
                overshoot("the preset's: 0.3 with moments, else 0"),
            ],
            [output(solved=True)],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(chosen("uce", values))


class TIMESettings(io.ComfyNode):
    """TIME: the first closed form, without a retain set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "TIMESettings",
            "TIME Settings",
            "Erases by a closed form that keeps nothing in particular (Orgad et al.): seconds, no hidden prompt.",
            [
                layers(),
                weight("lambda_", "Weight of leaving the matrices as they are. -1 is the authors' 0.1.", "lambda"),
                overshoot("0"),
            ],
            [output(solved=True)],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        values["lambda"] = values.pop("lambda_")
        return io.NodeOutput(chosen("time", values))


class DoubleProjectionsSettings(io.ComfyNode):
    """Double Projections: a closed form that holds the retained texts exactly."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "DoubleProjectionsSettings",
            "Double Projections Settings",
            "Erases by a closed form that holds what is retained exactly: seconds, a tiny file, no hidden prompt.",
            [
                layers(),
                count("directions", "Directions that are erased, for each concept. -1 is 4."),
                weight("kept_energy", "Share of the retained texts that is held exactly (up to 1). -1 is 0.9999."),
                overshoot("0"),
            ],
            [output(solved=True)],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(chosen("dp", values))
