"""The small settings nodes that feed the METHOD socket, one a method."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host.schema import Method, auto, checked, field, node_schema
from .values import MethodChoice

BY_MODEL = -1
RATE = "Learning rate of the UNet."
RETAIN = "How much it counts that retained concepts stay as they are. -1 is 1 where such were named, else 0."


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
                _rate("eta", f"{RATE} -1 is 0.0001 with a rank and 0.00001 without, for the pocket model 0.0002."),
                _rate(
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
                    tooltip="Guidance scale (at least 1) of the pictures that are learnt from. -1 is 3.",
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
                _latents(),
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
                _overshoot("0"),
                _later(
                    "opens",
                    "How much it counts that other texts stay as they are with the hidden prompt. With 0 it paints its "
                    "concept over them, as in the paper. With 1, lambda 1 and mechanism additive it brings the model back. -1 is 0.",
                    most=100,
                ),
            ],
            [_output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        values["lambda"] = values.pop("lambda_")
        return io.NodeOutput(_chosen("kpop", values))


class ESDSettings(io.ComfyNode):
    """ESD: pushes the concept's prediction away from itself."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "ESDSettings",
            "ESD Settings",
            "Erases by negative guidance (Gandikota et al.). No hidden prompt. Values of -1 are what suits the model.",
            [
                _rate("eta", f"{RATE} -1 is 0.0001 with a rank and 0.00005 without, for the pocket model 0.0002."),
                _weight(
                    "negative_guidance", "How far the prediction is pushed from the concept. -1 is the authors' 2."
                ),
                _weight("guidance", "Guidance scale (at least 1) of the pictures that are learnt from. -1 is 3."),
                _weight("retain_weight", RETAIN),
                _latents(),
            ],
            [_output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(_chosen("esd", values))


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
                _rate("eta", f"{RATE} -1 is 0.0001 with a rank and 0.000008 without, for the pocket model 0.00006."),
                _count("anchor_images", "Pictures of the anchor that are generated first. -1 is the authors' 200."),
                _weight("anchor_guidance", "Guidance scale (at least 1) of those pictures. -1 is the authors' 6."),
                _weight("retain_weight", RETAIN),
                _overshoot("0"),
            ],
            [_output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(_chosen("ca", values))


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
                io.Combo.Input(
                    "tune",
                    options=["all", "noxattn", "xattn", "xattn-kv"],
                    default="all",
                    tooltip="What changes, in place of the training node's own tune. With less than all, learnt contexts find "
                    "a way around.",
                ),
                _rate(
                    "eta",
                    f"{RATE} It falls to 0 over the second half. -1 is 0.0001 with a rank and 0.00005 without, for the pocket model 0.00005.",
                ),
                _weight("resist_weight", "How much it counts that learnt contexts draw the anchor. -1 is 0.5."),
                _weight(
                    "margin",
                    "A context is let go once its error on the concept's pictures is this many times that of the anchor's text. 1 "
                    "resists less and keeps more of the rest. -1 is 1.5.",
                ),
                _weight(
                    "retain_weight",
                    "How much it counts that retained concepts stay as they are. -1 is 4 where such were named, else 0.",
                ),
                _count("contexts", "Contexts that are learnt against the network, in turn. -1 is 24."),
                _count("context_steps", "Steps of a context for one of the network. -1 is 3."),
                _count(
                    "pictures", "Pictures of the concept that the model draws first, to learn contexts from. -1 is 48."
                ),
                _latents(),
            ],
            [_output()],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(_chosen("robust", values))


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
                _layers(),
                _weight("l", "Weight of leaving the matrices as they are. -1 is the preset's."),
                _weight("s_e", "Weight of erasing. -1 is 1."),
                _weight("s_p", "Weight of preserving what is retained. -1 is the preset's."),
                _overshoot("half for one concept with moments, else none"),
            ],
            [_output(solved=True)],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(_chosen("uce", values))


class TIMESettings(io.ComfyNode):
    """TIME: the first closed form, without a retain set."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "TIMESettings",
            "TIME Settings",
            "Erases by a closed form that keeps nothing in particular (Orgad et al.): seconds, no hidden prompt.",
            [
                _layers(),
                _weight("lambda_", "Weight of leaving the matrices as they are. -1 is the authors' 0.1.", "lambda"),
                _overshoot("0"),
            ],
            [_output(solved=True)],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        values["lambda"] = values.pop("lambda_")
        return io.NodeOutput(_chosen("time", values))


class DoubleProjectionsSettings(io.ComfyNode):
    """Double Projections: a closed form that holds the retained texts exactly."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "DoubleProjectionsSettings",
            "Double Projections Settings",
            "Erases by a closed form that holds what is retained exactly: seconds, a tiny file, no hidden prompt.",
            [
                _layers(),
                _count("directions", "Directions that are erased, for each concept. -1 is 4."),
                _weight("kept_energy", "Share of the retained texts that is held exactly (up to 1). -1 is 0.9999."),
                _overshoot("0"),
            ],
            [_output(solved=True)],
        )

    @classmethod
    @checked
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(_chosen("dp", values))


def _chosen(name: str, values: dict[str, Any]) -> MethodChoice:
    return MethodChoice(name, {key: value for key, value in values.items() if value != BY_MODEL})


def _output(solved: bool = False) -> Any:
    also = "Erase Concepts (closed form) or " if solved else ""
    return Method.Output(display_name="METHOD", tooltip=f"Connect to {also}Train Concept Eraser.")


def _latents() -> Any:
    tooltip = (
        "Half-finished pictures from a pool, each used many times, or made anew for every step as the authors do (many "
        "times slower for more than a few steps)."
    )
    return field(io.Combo.Input, "latents", options=["pool", "fresh"], default="pool", tooltip=tooltip, advanced=True)


def _layers() -> Any:
    tooltip = "Which matrices that read the text are changed: keys and values, keys, or values."
    return io.Combo.Input("layers", options=["kv", "k", "v"], default="kv", tooltip=tooltip)


def _overshoot(stands_for: str) -> Any:
    tooltip = (
        "How far past its anchor the concept is moved. 0 is the papers' way, with which the anchor in a negative prompt "
        f"brings the concept back. More can harm what looks alike. -1 is {stands_for}."
    )
    return _later("overshoot", tooltip, most=4)


def _later(name: str, tooltip: str, most: float) -> Any:
    """An optional number: workflows that were saved before it was there have no such value."""
    words: dict[str, Any] = {"min": -1, "max": most, "step": 0.05, "round": False, "optional": True, "advanced": True}
    return auto(io.Float.Input, name, BY_MODEL, tooltip=tooltip, **words)


def _count(name: str, tooltip: str) -> Any:
    return auto(io.Int.Input, name, BY_MODEL, min=-1, max=100_000, tooltip=tooltip)


def _weight(name: str, tooltip: str, title: str | None = None) -> Any:
    return auto(io.Float.Input, name, BY_MODEL, title, min=-1, max=100, step=0.0001, round=False, tooltip=tooltip)


def _rate(name: str, tooltip: str) -> Any:
    return auto(io.Float.Input, name, BY_MODEL, min=-1, max=1, step=1e-6, round=False, tooltip=tooltip, advanced=True)
