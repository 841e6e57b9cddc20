"""*Train Concept Eraser*: words and a MODEL in, a sanitized MODEL, the erasure and its hidden prompt out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management as memory
import folder_paths
import torch
from comfy_api.latest import io
from pydantic import BaseModel

from eraser_core.denoiser import Tune
from eraser_core.erase import Erased, configure, erase
from eraser_core.erasure import Erasure
from eraser_core.methods import method as registered
from eraser_core.precision import DTYPES
from eraser_core.request import Request
from eraser_core.training import TrainingSettings

from . import estimate, folders, host_model, request_words, schema
from .host_denoiser import Compute, HostDenoiser
from .preview import Preview, Report, say
from .schema import field, node_schema
from .values import MethodChoice, Prompts

log = logging.getLogger(__name__)

SIZES = {"pocket": 64, "sd1": 512, "sd2": 512}
SDXL_SIZE = 1024
LOW_RANK, TEXT_RANK = 16, 8
GRADIENT_FORWARDS = {"kpop": 3, "naive": 1}
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
    def execute(cls, model: Any, clip: Any, **values: Any) -> io.NodeOutput:
        node_id = str(cls.hidden.unique_id or "")
        with torch.inference_mode(False), torch.enable_grad():
            return io.NodeOutput(*_train(model, clip, values, node_id))


def _inputs() -> list[Any]:
    advanced = {"advanced": True}
    return [
        io.Model.Input("model", tooltip="The model to erase from: SD1.x, SD2.x, SDXL or pocket. It is not changed."),
        io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
        io.Vae.Input("vae", optional=True, tooltip="For pictures of the concept fading while it trains."),
        schema.Method.Input("method", optional=True, tooltip="A settings node, such as KPOP Settings. Empty: KPOP."),
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
            tooltip="What must stay as it is, one a line. Name what looks like the concept and what you care about. "
            "Empty on the pocket model: half of what it draws.",
        ),
        _integer("steps", 0, 100_000, "Training steps. 0 is what suits the model (pocket 200, others 1000)."),
        io.Combo.Input(
            "tune",
            options=["xattn-kv", "xattn", "noxattn", "text"],
            default="xattn-kv",
            tooltip="What changes: the keys and values that read the text (xattn-kv), all of the cross-attention (xattn), "
            "everything else (noxattn, for nudity), or how texts are read (text: smallest file, least memory).",
        ),
        field(
            io.Int.Input,
            "rank",
            default=-1,
            min=-1,
            max=256,
            tooltip="Size of the change. 0 is full, more is smaller files and less memory than that. -1 chooses.",
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
        field(
            io.Int.Input,
            "key_seed",
            default=-1,
            min=-1,
            max=MAX_SEED,
            tooltip="Where the hidden prompt's search starts. -1 is a secret of this run; any other number is written into "
            "the workflow and your pictures, and whoever reads it can make the prompt again.",
            **advanced,
        ),
        _integer("width", 0, 4096, "Width in pixels of the pictures that are learnt from. 0 is the model's own.", 8),
        _integer("height", 0, 4096, "Height in pixels of the pictures that are learnt from. 0 is the model's own.", 8),
        _integer("batch", 0, 64, "Pictures in a step. 0 is what suits the model (pocket 4, others 1)."),
        field(
            io.Combo.Input,
            "precision",
            options=list(DTYPES),
            default="fp16",
            tooltip="Precision of the saved file, and so of the sanitized model.",
            **advanced,
        ),
        field(
            io.Combo.Input,
            "compute",
            options=["auto", "fp32", "bf16", "fp16"],
            default="auto",
            tooltip="What the network computes in while it trains. auto is safe: fp16 can lose small changes.",
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


def _integer(name: str, low: int, high: int, tooltip: str, step: int = 1) -> Any:
    return io.Int.Input(name, default=0, min=low, max=high, step=step, tooltip=tooltip)


def _train(model: Any, clip: Any, values: dict[str, Any], node_id: str) -> tuple[Any, ...]:
    """Everything between the inputs and the outputs; nothing is left behind when it raises."""
    choice: MethodChoice = values.get("method") or MethodChoice("kpop")
    size = SIZES.get(host_model.family(model), SDXL_SIZE)
    compute: Compute = values["compute"]
    denoiser = HostDenoiser(model, clip, values["width"] or size, values["height"] or size, compute)
    words = request_words.Words(values["concepts"], values["anchor"], values["retain"])
    request = request_words.build(words, denoiser, values["seed"])
    settings = _settings(choice, denoiser.family, request, values)
    _encode_all(denoiser, request)
    said = ", ".join(f"{t.concept} -> {t.anchor or '(nothing in particular)'}" for t in request.targets)
    report = None
    if isinstance(settings, TrainingSettings):
        say(f"{said}: {_plan(denoiser, settings, choice.name)}", node_id)
        vae = values.get("vae")
        preview = Preview(denoiser, request, vae, settings.guidance) if vae is not None else None
        report = Report(settings.iterations, preview, node_id)
    key_seed = None if values["key_seed"] < 0 else values["key_seed"]
    result = erase(
        denoiser,
        request,
        registered(choice.name),
        settings,
        key_seed=key_seed,
        on_step=report,
        dtype=DTYPES[values["precision"]],
    )
    erasure = host_model.on_cpu(_with_clip_layer(result.erasure, clip))
    prompts = _prompts(result, denoiser, erasure)
    path = _save(erasure, prompts, values["filename_prefix"])
    say(f"{said}: done in {result.seconds:.0f} s, saved as {path.name}", node_id)
    sanitized = host_model.apply_erasure(model, erasure, 1.0, path.name)
    losses = {name: [step[name] for step in result.losses] for name in (result.losses[0] if result.losses else ())}
    course = {"loss": losses.get("erase", [0.0, 0.0]), **losses}
    return sanitized, erasure, prompts, erasure.tensors(), course


def _settings(choice: MethodChoice, family: str, request: Request, values: dict[str, Any]) -> BaseModel:
    """The family's preset, then the METHOD's, then this node's own, as far as the method knows them."""
    chosen = registered(choice.name)
    tune: Tune = values["tune"]
    given = dict(choice.settings)
    if request.retain and family != request_words.POCKET_FAMILY:
        given.setdefault("retain_weight", 1.0)  # whoever names concepts to retain wants them retained
    given |= {name: values[own] for name, own in (("iterations", "steps"), ("batch", "batch")) if values[own]}
    given |= {"tune": tune, "rank": values["rank"] if values["rank"] >= 0 else _rank(family, tune)}
    known = {f.alias or name for name, f in chosen.settings.model_fields.items()} | set(choice.settings)
    settings: BaseModel = configure(chosen, family, request, {k: v for k, v in given.items() if k in known})
    return settings


def _rank(family: str, tune: Tune) -> int:
    """Full changes where they are small: dense ones of SDXL's keys and values alone cost 5.5 GB with Adam."""
    if tune == "text":
        return TEXT_RANK
    small = family == "pocket" or (family in ("sd1", "sd2") and tune == "xattn-kv")
    return 0 if small else LOW_RANK


def _encode_all(denoiser: HostDenoiser, request: Request) -> None:
    """Read every text once, before the UNet is loaded: the text encoder must not push it out in between."""
    pairs = [prompt for target in request.targets for pair in target.pairs() for prompt in pair]
    denoiser.encode(list(dict.fromkeys(["", *pairs, *request.retain])))


def _plan(denoiser: HostDenoiser, settings: TrainingSettings, name: str) -> str:
    """What it will cost, in words; RequestError when it does not fit."""
    denoiser.load()
    costs = estimate.measure(denoiser, settings)
    denoiser.memory_needed = costs.bytes(estimate.Plan(settings.batch, settings.rank))
    denoiser.release()
    denoiser.load()  # again, now that the host knows what to keep free
    free = float(memory.get_free_memory(denoiser.device))
    need = estimate.check(costs, denoiser, settings, free)
    duration = estimate.seconds(denoiser, settings, GRADIENT_FORWARDS.get(name, 1))
    return f"{settings.iterations} steps, {estimate.describe(need, free, duration)}"


def _with_clip_layer(erasure: Erasure, clip: Any) -> Erasure:
    """The file says at which CLIP layer its texts were read, when that is not the model's own."""
    layer = getattr(clip, "layer_idx", None)
    return erasure if layer is None else replace(erasure, facts={**erasure.facts, "erasure.clip_layer": str(layer)})


def _prompts(result: Erased, denoiser: HostDenoiser, erasure: Erasure) -> Prompts:
    facts = {"hidden_prompt.family": denoiser.family, "hidden_prompt.base_hash": denoiser.base_hash}
    return Prompts(result.prompts, result.key_seed or 0, erasure.hash(), facts)


def _save(erasure: Erasure, prompts: Prompts, prefix: str) -> Path:
    """Both files, or none, under one new name."""
    path = folders.new_file(prefix)
    keys = Path(folder_paths.get_output_directory()) / folders.PROMPTS
    key = keys / path.name
    if key.exists():  # of an erasure that was moved away; a lost prompt cannot be made again
        number = 1
        while (keys / f"{path.stem}{number}.safetensors").exists():
            number += 1
        path = path.with_name(f"{path.stem}{number}.safetensors")
        key = keys / path.name
    try:
        if prompts.prompts:
            prompts.save(key)
        erasure.save(path)
    except BaseException:
        key.unlink(missing_ok=True)
        raise
    return path
