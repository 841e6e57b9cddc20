"""Hidden prompts: load, save, and put into conditionings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from eraser_core.denoiser import Context
from eraser_core.errors import RequestError
from eraser_core.hidden_prompt import HiddenPrompt

from .apply import FROM_SOCKET
from .host import folders, schema
from .host.schema import checked, node_schema
from .values import Prompts, read_prompts

ALIASES = (*schema.ALIASES, "recover", "unlock", "key")


def prompt_combo(name: str, tooltip: str, also: tuple[str, ...] = ()) -> Any:
    """A list of hidden prompt files."""
    return io.Combo.Input(name, options=[*also, *folders.names(folders.PROMPTS)], tooltip=tooltip)


def inject(conditioning: list[Any], prompt: HiddenPrompt, strength: float) -> list[Any]:
    """The conditioning with the hidden prompt in every entry's tokens; everything else in an entry stays.

    RequestError when the prompt was made for another text width or length.
    """
    out = []
    for tokens, options in conditioning:
        if prompt.mechanism == "additive" and tokens.shape[1] % prompt.tokens_per_chunk:
            raise RequestError(
                f"the hidden prompt is added to texts of {prompt.tokens_per_chunk} tokens, this conditioning has "
                f"{tokens.shape[1]}: inject it only once, and before other nodes that lengthen a conditioning"
            )
        longer, options = prompt.extend(Context(tokens), strength).tokens, dict(options)
        if options.get("attention_mask") is not None:
            further = longer.shape[1] - tokens.shape[1]
            options["attention_mask"] = torch.nn.functional.pad(options["attention_mask"], (0, further), value=1)
        out.append([longer, options])
    return out


class HiddenPromptInject(io.ComfyNode):
    """Brings an erased concept back: extends the positive conditioning, or both, by the hidden prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "HiddenPromptInject",
            "Hidden Prompt Inject",
            "Brings an erased concept back for whoever has the hidden prompt. Both conditionings must go through it. The "
            "prompt is no lock: with the model's weights, anybody can train one of their own.",
            [
                io.Conditioning.Input("positive", tooltip="The text that names the erased concept."),
                io.Conditioning.Input(
                    "negative", tooltip="The negative text. It goes through unchanged unless 'halves' says both."
                ),
                prompt_combo(
                    "prompt_name",
                    "A hidden prompt file, or the one from the socket.",
                    (FROM_SOCKET,),
                ),
                io.String.Input(
                    "concept",
                    default="",
                    tooltip="Which concept to bring back, when the file holds several. Empty: the only one.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0,
                    max=4,
                    step=0.05,
                    tooltip="1 is as trained. 0 leaves the texts as they are.",
                ),
                schema.HiddenPrompt.Input(
                    "hidden_prompt",
                    optional=True,
                    tooltip="From Train Concept Eraser or Load Hidden Prompt; wins over the file.",
                ),
                schema.field(
                    io.Combo.Input,
                    "halves",
                    options=["positive", "both"],
                    default="positive",
                    optional=True,
                    advanced=True,
                    tooltip="Which texts get the hidden prompt. Both is what the paper's authors do; guidance then takes "
                    "away a part of what it brings.",
                ),
            ],
            [io.Conditioning.Output(display_name="positive"), io.Conditioning.Output(display_name="negative")],
            aliases=ALIASES,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, prompt_name: str = FROM_SOCKET, **_: Any) -> str:
        return folders.file_hash(folders.PROMPTS, prompt_name)

    @classmethod
    def validate_inputs(cls, prompt_name: str = "") -> bool | str:
        return True

    @classmethod
    @checked
    def execute(
        cls,
        positive: list[Any],
        negative: list[Any],
        prompt_name: str,
        concept: str,
        strength: float,
        hidden_prompt: Prompts | None = None,
        halves: str = "positive",
    ) -> io.NodeOutput:
        if hidden_prompt is None:
            if prompt_name in ("", FROM_SOCKET):
                raise RequestError("choose a hidden prompt file, or connect Train Concept Eraser or Load Hidden Prompt")
            hidden_prompt = read_prompts(folders.find(folders.PROMPTS, prompt_name, cls.hidden))
        prompt = hidden_prompt.pick(concept)
        for name, given in (("positive", positive), ("negative", negative)):
            if not given:
                raise RequestError(f"{name} is empty: connect CLIP Text Encode")
        both = inject(negative, prompt, strength) if halves == "both" else negative
        return io.NodeOutput(inject(positive, prompt, strength), both)


class LoadHiddenPrompt(io.ComfyNode):
    """A hidden prompt file as a value."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "LoadHiddenPrompt",
            "Load Hidden Prompt",
            "Reads a hidden prompt file from models/hidden_prompts or output/hidden_prompts.",
            [prompt_combo("prompt_name", "A hidden prompt file.")],
            [schema.HiddenPrompt.Output(display_name="HIDDEN_PROMPT", tooltip="For Hidden Prompt Inject.")],
            aliases=ALIASES,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, prompt_name: str = "", **_: Any) -> str:
        return folders.file_hash(folders.PROMPTS, prompt_name)

    @classmethod
    def validate_inputs(cls, prompt_name: str = "") -> bool | str:
        return True

    @classmethod
    @checked
    def execute(cls, prompt_name: str) -> io.NodeOutput:
        return io.NodeOutput(read_prompts(folders.find(folders.PROMPTS, prompt_name, cls.hidden)))


class SaveHiddenPrompt(io.ComfyNode):
    """Writes a further copy of a run's hidden prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "SaveHiddenPrompt",
            "Save Hidden Prompt",
            "Writes a further copy of the hidden prompts (Train Concept Eraser saves them by itself). Keep it private.",
            [
                schema.HiddenPrompt.Input("hidden_prompt", tooltip="The hidden prompts of a run."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{folders.PROMPTS}/hidden_prompt",
                    tooltip="Where it is saved, below ComfyUI's output folder.",
                ),
            ],
            [io.String.Output(display_name="path", tooltip="Where it was saved.")],
            aliases=ALIASES,
            is_output_node=True,
        )

    @classmethod
    @checked
    def execute(cls, hidden_prompt: Prompts, filename_prefix: str) -> io.NodeOutput:
        path = folders.new_file(filename_prefix)
        hidden_prompt.save(path)
        return io.NodeOutput(str(path.relative_to(Path(folder_paths.get_output_directory()))))
