"""*Train Concept Eraser*: words and a MODEL in, a sanitized MODEL, the erasure and its hidden prompt out."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import request_inputs
from .host import schema
from .host.schema import auto, checked, field, node_schema

MAX_SEED = 2**62


class TrainConceptEraser(io.ComfyNode):
    """Erases concepts from a MODEL by training, saves the erasure and its hidden prompt, and hands both on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "TrainConceptEraser",
            "Train Concept Eraser",
            "Makes a model unable to draw a concept, keeping everything else. Saves the erasure as a LoRA file in "
            "output/loras and the hidden prompt, which brings the concept back, in output/hidden_prompts.",
            _inputs(),
            [
                io.Model.Output(display_name="MODEL", tooltip="The sanitized model, built from the tensors as saved."),
                schema.Erasure.Output(display_name="CONCEPT_ERASURE", tooltip="The erasure, for Apply Sanitized UNet."),
                schema.HiddenPrompt.Output(
                    display_name="HIDDEN_PROMPT", tooltip="What brings the concept back. Keep it private."
                ),
                schema.LoraModel.Output(display_name="LORA_MODEL", tooltip="The same tensors for core LoRA nodes."),
                schema.LossMap.Output(display_name="LOSS_MAP", tooltip="The course of the loss, for Plot Loss Graph."),
            ],
            aliases=(*schema.ALIASES, "train", "nsfw", "safety"),
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(cls, model: Any, clip: Any, **values: Any) -> io.NodeOutput:
        from .train_run import train  # not at start: it brings pydantic, which costs the host's start 0.2 s

        outputs, said = train(model, clip, values, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(*outputs, ui={"text": (said,)})


def _inputs() -> list[Any]:
    advanced: dict[str, Any] = {"advanced": True}
    return [
        *request_inputs.network(),
        io.Vae.Input("vae", optional=True, tooltip="For pictures of the concept fading while it trains."),
        schema.Method.Input("method", optional=True, tooltip="A settings node, such as KPOP Settings. Empty: KPOP."),
        *request_inputs.words(),
        io.String.Input(
            "retain",
            multiline=True,
            default="",
            tooltip="What must stay as it is, one a line. Name what looks like the concept and what you care about. "
            + request_inputs.EMPTY_RETAIN,
        ),
        auto(
            io.Int.Input,
            "steps",
            0,
            min=0,
            max=100_000,
            tooltip="Training steps. 0 is 1000 (ESD 200, CA 100), for the pocket model 100 (ESD, CA and Locked 200, Robust 300), "
            "for the flow-matching one 200 (Robust 300).",
        ),
        io.Combo.Input(
            "tune",
            options=["xattn-kv", "xattn", "noxattn", "text", "all"],
            default="xattn-kv",
            tooltip="What changes: what reads the text (xattn-kv), all of the attention to it (xattn), "
            "everything else (noxattn, for nudity), how texts are read (text: smallest file, least memory), or the whole "
            "network (all).",
        ),
        auto(
            io.Int.Input,
            "rank",
            -1,
            min=-1,
            max=256,
            tooltip="Size of the change. -1 is what suits the model (16, for the pocket model dense). 16 is a file of a few MB that "
            "ComfyUI loads, and for SD and SDXL diffusers. 0 is dense: a large file, which diffusers does not load.",
            **advanced,
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=False,
            tooltip="The same seed and settings give the same erasure.",
        ),
        auto(
            io.Int.Input,
            "key_seed",
            -1,
            min=-1,
            max=MAX_SEED,
            tooltip="Where the hidden prompt's search starts. -1 is a secret of this run; any other number is written into "
            "the workflow and your pictures, and whoever reads it can make the prompt again.",
            **advanced,
        ),
        auto(
            io.Int.Input,
            "width",
            0,
            min=0,
            max=4096,
            step=8,
            tooltip="Width in pixels of the pictures that are learnt from. 0 is 1024, for SD1.5, SD2 and Wan 512, for the pocket model "
            "64.",
            **advanced,
        ),
        auto(
            io.Int.Input,
            "height",
            0,
            min=0,
            max=4096,
            step=8,
            tooltip="Height in pixels of the pictures that are learnt from. 0 is 1024, for SD1.5, SD2 and Wan 512, for the pocket "
            "model 64.",
            **advanced,
        ),
        auto(
            io.Int.Input,
            "batch",
            0,
            min=0,
            max=64,
            tooltip="Pictures in a step. 0 is 1 (CA 4), for the pocket model 4.",
            **advanced,
        ),
        request_inputs.precision(),
        field(
            io.Combo.Input,
            "compute",
            options=["auto", "fp32", "bf16", "fp16"],
            default="auto",
            tooltip="What the network computes in while it trains. auto is safe: fp16 only with memory low.",
            **advanced,
        ),
        request_inputs.filename_prefix(),
        field(
            io.Combo.Input,
            "memory",
            options=["auto", "normal", "low"],
            default="auto",
            optional=True,
            tooltip="low computes activations again instead of keeping them, and an fp16 model in fp16: slower, a fraction of "
            "the memory. auto is low where normal does not fit.",
            **advanced,
        ),
    ]
