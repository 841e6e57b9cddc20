"""The settings nodes of the methods that resist learnt contexts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.schema import checked, node_schema
from .method_inputs import RATE, chosen, count, latents, output, rate, weight

FALLING_RATE = f"{RATE} It falls to 0 over the second half. -1 is 0.0001 with a rank and 0.00005 without, for the pocket model 0.00005."
RESIST = "How much it counts that learnt contexts draw the anchor."
MARGIN = "A context is let go once its error on the concept's pictures is this many times that of the anchor's text."
KEPT = "How much it counts that retained concepts stay as they are. -1 is 4 where such were named, else 0."
CONTEXTS = "Contexts that are learnt against the network, in turn. -1 is 24."
CONTEXT_STEPS = "Steps of a context for one of the network. -1 is 3."
PICTURES = "Pictures of the concept that the model draws first, to learn contexts from. -1 is 48."


class RobustSettings(io.ComfyNode):
    """Robust: plays the attacker while it trains."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "RobustSettings",
            "Robust Settings",
            "Erases so that a context learnt from pictures does not bring the concept back: it learns such contexts while it "
            "trains. Slower than the others, and changes the whole network. No hidden prompt. Values of -1 are what suits the model.",
            [
                tune(),
                rate("eta", FALLING_RATE),
                weight("resist_weight", f"{RESIST} -1 is 0.5."),
                weight("margin", f"{MARGIN} 1 resists less and keeps more of the rest. -1 is 1.5."),
                weight("retain_weight", KEPT),
                count("contexts", CONTEXTS),
                count("context_steps", CONTEXT_STEPS),
                count("pictures", PICTURES),
                latents(),
            ],
            [output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(chosen("robust", values))


class LockedSettings(io.ComfyNode):
    """Locked: plays the attacker while it trains, and a hidden prompt opens it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "LockedSettings",
            "Locked Settings",
            "Erases as Robust does, and a hidden prompt opens the model. Slower than the others, and changes the whole network. "
            "Values of -1 are what suits the model.",
            [
                tune(),
                rate("eta", FALLING_RATE),
                weight(
                    "lambda_", "How much it counts that the hidden prompt brings the concept back. -1 is 3.", "lambda"
                ),
                weight(
                    "opens", "How much it counts that other texts stay as they are with the hidden prompt. -1 is 2."
                ),
                weight(
                    "close",
                    "How much it counts that false prompts, some of them near the true one, draw the anchor. -1 is 1.",
                ),
                weight("key_norm", "How large the hidden prompt is, beside the text that it is added to. -1 is 8."),
                weight("resist_weight", f"{RESIST} -1 is 1."),
                weight("margin", f"{MARGIN} -1 is 1."),
                weight("retain_weight", KEPT),
                count("contexts", CONTEXTS),
                count("context_steps", CONTEXT_STEPS),
                count("pictures", PICTURES),
                latents(),
            ],
            [output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        values["lambda"] = values.pop("lambda_")
        return io.NodeOutput(chosen("locked", values))


def tune() -> Any:
    """What changes."""
    tooltip = (
        "What changes, in place of the training node's own tune. With less than all, learnt contexts find a way around."
    )
    return io.Combo.Input("tune", options=["all", "noxattn", "xattn", "xattn-kv"], default="all", tooltip=tooltip)
