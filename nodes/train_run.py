"""What *Train Concept Eraser* does when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import comfy.model_management as memory
import folder_paths
import torch
from pydantic import BaseModel

from eraser_core.denoiser import Tune
from eraser_core.erasing import Erased, configure, erase
from eraser_core.erasure import Erasure
from eraser_core.errors import RequestError
from eraser_core.files import sweep_file
from eraser_core.general_words import general_prompts
from eraser_core.keeping import Chosen
from eraser_core.locks import LOCK, locked
from eraser_core.methods import method as registered
from eraser_core.precision import DTYPES
from eraser_core.request import Request
from eraser_core.text_moments import whole_vocabulary
from eraser_core.text_readers import places
from eraser_core.training import Learner, TrainingSettings

from . import request_words
from .host import estimate, folders
from .host import model as host_model
from .host.denoiser import HostDenoiser
from .host.loading import Compute
from .host.preview import Preview, Report, say
from .host.transformer import denoiser_for
from .run_words import in_words, retained, used, with_run
from .values import MethodChoice, Prompts

SAVE_SECONDS = 60.0  # how long another process may take to write its files


def train(model: Any, clip: Any, values: dict[str, Any], node_id: str) -> tuple[tuple[Any, ...], str]:
    """(the node's outputs, what it says of the run); nothing is left behind when it raises."""
    with torch.inference_mode(False), torch.enable_grad():
        return _train(model, clip, values, node_id)


def _train(model: Any, clip: Any, values: dict[str, Any], node_id: str) -> tuple[tuple[Any, ...], str]:
    folders.check_prefix(values["filename_prefix"])  # a wrong one is said now, not after the training
    choice: MethodChoice = values.get("method") or MethodChoice("kpop")
    size = host_model.own_size(model)
    compute: Compute = values["compute"]
    denoiser = denoiser_for(model, clip, values["width"] or size, values["height"] or size, compute)
    learner = registered(choice.name).learner
    if learner is not None and learner.hides and not denoiser.appends:
        raise RequestError(
            f"{choice.name.upper()} learns a hidden prompt, and this MODEL ({denoiser.family}) makes of a text what it reads by a "
            "network that would make something else of it: connect ESD, CA, Naive or Robust Settings"
        )
    words = request_words.Words(values["concepts"], values["anchor"], values["retain"])
    if learner is not None and learner.adds and not denoiser.tokens_per_chunk:
        raise RequestError(
            f"{choice.name.upper()} adds its hidden prompt to every token, and texts of this MODEL ({denoiser.family}) have lengths of "
            "their own: connect KPOP or Robust Settings"
        )
    chosen = request_words.build(words, denoiser.reader, values["seed"])
    request = chosen.request
    settings = _settings(choice, denoiser.family, request, values)
    if isinstance(settings, TrainingSettings):
        # Once, before the UNet is loaded: the text encoder must not push it out in between.
        denoiser.encode(settings.texts(request))
        if settings.confine:
            _read_vocabulary(denoiser, node_id)
    said = in_words(request)
    report = None
    if isinstance(settings, TrainingSettings) and learner is not None:
        vae = values.get("vae")
        preview = Preview(denoiser, request, vae, settings.guidance) if vae is not None else None
        plan = _plan(denoiser, settings, learner, request, values.get("memory", "auto"))
        say(f"{said}: {plan}", node_id)
        sizes = settings.all_steps, settings.filled(request), estimate.pool_rows(settings, request)
        report = Report(*sizes, preview, node_id)
        denoiser.on_forward = report.preparing
    key_seed = None if values["key_seed"] < 0 else values["key_seed"]
    result = erase(
        denoiser,
        request,
        registered(choice.name),
        settings,
        key_seed=key_seed,
        on_step=report,
        on_fill=report.filled if report else None,
        dtype=DTYPES[values["precision"]],
    )
    run = _run(denoiser, chosen, values)
    erasure = host_model.on_cpu(with_run(result.erasure, run, clip))
    prompts = _prompts(result, denoiser, erasure)
    path = save(erasure, prompts, values["filename_prefix"])
    done = f"{said}: done in {result.seconds:.0f} s, saved as {path.name}"
    text = "\n".join([done, *chosen.notes, used(choice.name, settings, run, erasure)])
    say(text, node_id)
    sanitized = host_model.apply_erasure(model, erasure, 1.0, path.name)
    losses = {name: [step[name] for step in result.losses] for name in (result.losses[0] if result.losses else ())}
    course = {"loss": losses.get("erase", [0.0, 0.0]), **losses}
    return (sanitized, erasure, prompts, erasure.tensors(), course), text


def _read_vocabulary(denoiser: HostDenoiser, node_id: str) -> None:
    """What confining keeps, read once for each text encoder."""
    say("reading the general vocabulary", node_id)
    for place in places(denoiser):
        whole_vocabulary(place)
    denoiser.forget(general_prompts(denoiser.family))


def _run(denoiser: HostDenoiser, chosen: Chosen, values: dict[str, Any]) -> dict[str, Any]:
    """What the node itself was set to, with what "auto" came to. Never the hidden prompt's seed."""
    height, width = (denoiser.pixels * side for side in denoiser.latent_shape[1:])
    compute = next(name for name, dtype in DTYPES.items() if dtype == denoiser.compute_dtype)
    preset = "low" if denoiser.recompute else "normal"
    own = {"width": width, "height": height, "compute": compute, "memory": preset, "precision": values["precision"]}
    return own | {"seed": chosen.request.seed, **retained(chosen)}


def _settings(choice: MethodChoice, family: str, request: Request, values: dict[str, Any]) -> BaseModel:
    """The family's preset, then the METHOD's, then this node's own, as far as the method knows them."""
    chosen = registered(choice.name)
    tune: Tune = values["tune"]
    given = {"tune": tune} | dict(choice.settings)
    given |= {name: values[own] for name, own in (("iterations", "steps"), ("batch", "batch")) if values[own]}
    given |= {"rank": values["rank"]} if values["rank"] >= 0 else {}
    known = {f.alias or name for name, f in chosen.settings.model_fields.items()} | set(choice.settings)
    settings: BaseModel = configure(chosen, family, request, {k: v for k, v in given.items() if k in known})
    return settings


def _plan(
    denoiser: HostDenoiser, settings: TrainingSettings, learner: type[Learner], request: Request, wanted: str
) -> str:
    """What it will cost, in words; RequestError when it does not fit. "auto" is "low" where "normal" does not."""
    needed, free = None, 0.0
    presets: tuple[Literal["normal", "low"], ...] = ("normal", "low")
    for chosen in presets if wanted == "auto" else [p for p in presets if p == wanted]:
        denoiser.use(chosen)
        try:
            denoiser.load()
        except memory.OOM_EXCEPTION as error:  # "normal" holds a converted copy of an fp16 UNet beside it
            if chosen == "low" or wanted != "auto":
                raise RequestError(
                    f"the network alone does not fit into memory ({chosen}): set memory to low, load it in fp8 where it is a "
                    "transformer, or take Erase Concepts (closed form), which needs no graphics card"
                ) from error
            continue
        needed = estimate.need(denoiser, settings, learner, request, estimate.Plan(settings.batch, settings.rank))
        denoiser.memory_needed = needed or 0.0
        denoiser.release()
        denoiser.load()  # again, now that the host knows what to keep free
        free = float(memory.get_free_memory(denoiser.device))
        if needed is not None and needed <= free:
            break
    if needed is not None:
        estimate.check(denoiser, settings, learner, request, needed, free)
    rows = settings.student_rows(settings.batch) + settings.further_rows()
    duration = estimate.seconds(denoiser, settings, rows, request)
    return f"{settings.iterations} steps, {estimate.describe(needed, free, duration, chosen)}"


def _prompts(result: Erased, denoiser: HostDenoiser, erasure: Erasure) -> Prompts:
    facts = {"hidden_prompt.family": denoiser.family, "hidden_prompt.base_hash": denoiser.base_hash}
    return Prompts(result.prompts, result.key_seed or 0, erasure.hash(), facts)


def save(erasure: Erasure, prompts: Prompts | None, prefix: str) -> Path:
    """Both files, or none, under one new name; the erasure alone where there are no hidden prompts.

    A second ComfyUI with the same output folder waits, or both would take the same name. A process that is killed
    between the two leaves a hidden prompt without its erasure, and its name is not used again.
    """
    keys = Path(folder_paths.get_output_directory()) / folders.PROMPTS
    with locked(keys / LOCK, keys, wait=SAVE_SECONDS):
        return _save(erasure, prompts, prefix, keys)


def _save(erasure: Erasure, prompts: Prompts | None, prefix: str, keys: Path) -> Path:
    path = folders.new_file(prefix)
    key = keys / path.name
    if key.exists():  # of an erasure that was moved away; a lost prompt cannot be made again
        number = 1
        while (keys / f"{path.stem}{number}.safetensors").exists():
            number += 1
        path = path.with_name(f"{path.stem}{number}.safetensors")
        key = keys / path.name
    for file in (path, key):
        sweep_file(file)
    try:
        if prompts is not None and prompts.prompts:
            prompts.save(key)
        erasure.save(path)
    except BaseException:
        key.unlink(missing_ok=True)
        raise
    return path
