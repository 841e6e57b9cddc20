"""*Audit Erasure*: how an erasure can be undone."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from eraser_core.erasure import Erasure

from .apply import FROM_SOCKET, NONE, erasure_combo
from .host import folders, schema
from .host.preview import say
from .host.schema import auto, checked, field, node_schema

WHICH = ("quick", "all", "chosen")


class AuditErasure(io.ComfyNode):
    """Attacks an erasure and says which attacks bring its concept back; a page lies in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "AuditErasure",
            "Audit Erasure",
            "Attacks an erasure and says in words which attacks bring the concept back: other words, negative prompts, other "
            "settings, a context that is learnt, and more. It writes a page with all pictures and figures. A run that was "
            "cancelled goes on where it was.",
            _inputs(),
            [
                io.Image.Output(
                    display_name="IMAGE",
                    tooltip="The strongest way of every attack, on the untouched and the erased model.",
                ),
                io.String.Output(display_name="verdict", tooltip="What undoes it, in a sentence or two."),
                io.String.Output(display_name="text", tooltip="What every attack found, a line each."),
                io.String.Output(display_name="path", tooltip="The page, below ComfyUI's output folder."),
            ],
            aliases=(*schema.ALIASES, "attack", "robustness", "proof", "red team", "undo", "evaluation"),
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, erasure_name: str = FROM_SOCKET, second_lora: str = NONE, **_: Any) -> str:
        return "".join(folders.file_hash(folders.LORAS, name) for name in (erasure_name, second_lora))

    @classmethod
    def validate_inputs(cls, erasure_name: str = "", second_lora: str = "") -> bool | str:
        return True  # a missing file is explained by execute, with where to put it

    @classmethod
    @checked
    def execute(
        cls, model: Any, clip: Any, vae: Any, erasure_name: str, erasure: Erasure | None = None, **values: Any
    ) -> io.NodeOutput:
        from .audit_run import run  # not at start: it brings the judge and pydantic

        found = run(model, clip, vae, erasure_name, erasure, values, cls.hidden)
        say(found.text, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(found.sheet, found.verdict, found.text, found.path, ui=ui.PreviewText(found.text))


def _inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model that the erasure was made for, without any erasure on it."),
        io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
        io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
        erasure_combo(
            "erasure_name",
            "An erasure file from the LoRA folders, or the one from the socket. A plain LoRA is audited too, when the box "
            "'concept' says what it erases.",
            (FROM_SOCKET,),
        ),
        io.Combo.Input(
            "attacks",
            options=list(WHICH),
            default="quick",
            tooltip="quick: words, negative, settings, algebra, precision, context. all: also those that train, search or "
            "need a hidden prompt. chosen: those in the box below.",
        ),
        io.String.Input(
            "chosen",
            multiline=True,
            default="negative\nalgebra",
            tooltip="Names of attacks, one a line, for 'chosen'. The help page lists them.",
        ),
        io.String.Input(
            "concept",
            default="",
            tooltip="Which concept of the file. Empty: all that it names. For a plain LoRA: what it erases, with synonyms "
            "after bars, such as church|chapel.",
        ),
        io.Int.Input(
            "images",
            default=16,
            min=1,
            max=256,
            tooltip="Pictures behind each figure. Fewer are faster, and say less.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**62,
            control_after_generate=False,
            tooltip="Of what is learnt and searched for. The same seed goes on with an audit that was cancelled.",
        ),
        schema.Erasure.Input(
            "erasure", optional=True, tooltip="From Load Erasure or a node that erases; wins over the file."
        ),
        schema.HiddenPrompt.Input(
            "hidden_prompt", optional=True, tooltip="The erasure's hidden prompt, for the attack 'keys'."
        ),
        field(
            io.String.Input,
            "anchor",
            default="",
            optional=True,
            tooltip="What a plain LoRA draws in the concept's place, where you know it: its negative prompt is tried.",
            advanced=True,
        ),
        auto(
            io.Int.Input,
            "steps",
            0,
            min=0,
            max=1000,
            optional=True,
            tooltip="Sampling steps of a picture. 0 is what suits the model (pocket 16, others 25).",
            advanced=True,
        ),
        field(
            io.String.Input,
            "folder_prefix",
            default="audits/audit",
            optional=True,
            tooltip="Where the folder with the page is made, below ComfyUI's output folder. The erasure's name and a mark of "
            "the settings are added.",
            advanced=True,
        ),
        field(
            io.Combo.Input,
            "second_lora",
            options=[NONE, *folders.names(folders.LORAS)],
            default=NONE,
            optional=True,
            tooltip="A LoRA, or another erasure, that the attack 'settings' puts on top of this one: people stack LoRAs.",
            advanced=True,
        ),
    ]
