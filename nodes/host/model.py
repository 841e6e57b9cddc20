"""What the nodes know of a MODEL: its family, its weights, its schedule, and how an erasure is put on it and read off.

Together with denoiser.py and recompute.py the only place that touches ComfyUI's model internals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.model_sampling
import comfy.supported_models
import comfy.utils
import torch
from torch import Tensor
from torch.func import functional_call

from eraser_core.denoiser import FlowSchedule, NoiseSchedule, Schedule, Tune, tuned
from eraser_core.erasure import Dense, Erasure, LowRank, check_fits
from eraser_core.errors import ModelError, RequestError
from eraser_core.files import tensors_hash
from eraser_core.pocket.concepts import FAMILIES
from eraser_core.text_layers import NORMS, STABLE_DIFFUSION, reads_pooled, reads_text, row_of

SUPPORTED = (
    "Supported are Stable Diffusion 1.x, 2.x, SDXL, Flux.1, Flux.2, Chroma, Stable Diffusion 3, Qwen-Image, Z-Image, Lumina 2, "
    "Anima, PixArt, Wan and the pocket models, in fp32, fp16 or bf16, transformers also in fp8 without scales, from a checkpoint or "
    "diffusion model loader"
)
PREFIX = "diffusion_model."
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
SD3, ANIMA = "sd3", "anima"
# Transformers, by the host's word for them.
_TRANSFORMERS = {
    "flux": "flux1",
    "flux2": "flux2",
    "chroma": "chroma",
    "qwen_image": "qwen-image",
    "lumina2": "lumina2",
    "anima": ANIMA,
    "pixart_alpha": "pixart-alpha",
    "pixart_sigma": "pixart-sigma",
    "wan2.1": "wan",
}
FLUX_2_CHANNELS, WAN_2_2_CHANNELS = 128, 48
_Z_IMAGE = 3840  # the width by which the host tells Z-Image from Lumina 2
TRANSFORMERS = (*_TRANSFORMERS.values(), "z-image", SD3)
ATTACHMENT = "concept_eraser"
STACK = "concept_eraser_stack"
_FAMILIES = (
    ("sd1", comfy.supported_models.SD15),
    ("sd2", comfy.supported_models.SD20),
    ("sdxl", comfy.supported_models.SDXL),
)


@dataclass(frozen=True)
class Applied:
    """One erasure that a MODEL carries."""

    targets: str
    method: str
    strength: float
    hash: str
    source: str


def family(model: Any) -> str:
    """The engine's name of the MODEL's family; ModelError says what is supported when it has none."""
    config = getattr(model.model, "model_config", None)
    unet = getattr(config, "unet_config", {})
    own = getattr(config, "concept_eraser_family", None)
    if own:
        return str(own)
    for name, kind in _FAMILIES:
        text_only = name == "sdxl" or not unet.get("adm_in_channels")
        if isinstance(config, kind) and unet.get("in_channels") == 4 and text_only:
            return name if type(config) is kind else type(config).__name__.lower()  # SSD-1B and its like: other depths
    if isinstance(config, comfy.supported_models.SD3):  # the host has no word for it
        return SD3
    transformer = _TRANSFORMERS.get(unet.get("image_model", ""))
    if transformer:
        return "z-image" if unet.get("dim") == _Z_IMAGE else transformer
    said = type(config).__name__ if config is not None else type(model.model).__name__
    raise ModelError(f"this MODEL is of the kind {said}, whose concepts cannot be erased. {SUPPORTED}")


def _odd_kind(weight: Tensor) -> str:
    """What a weight is when it is no plain matrix of floats; "" for one that is.

    Newer hosts' and GGUF's quantised tensors claim the dtype that they compute in: only their class tells.
    """
    kind = type(weight).__name__
    if "quant" in kind.lower() or "ggml" in kind.lower():
        return kind
    return "" if weight.dtype in FLOATS else str(weight.dtype).removeprefix("torch.")


def own_size(model: Any) -> int:
    """Width and height in pixels of the pictures that the MODEL was made for."""
    return {**dict.fromkeys(FAMILIES, 64), "sd1": 512, "sd2": 512, "wan": 512}.get(family(model), 1024)


def pixels(model: Any) -> int:
    """How many pixels, in width or height, one number of the MODEL's latents stands for."""
    kind = model.model.latent_format
    known = getattr(kind, "spacial_downscale_ratio", None)  # of newer hosts
    return int(known or {FLUX_2_CHANNELS: 16, WAN_2_2_CHANNELS: 16}.get(kind.latent_channels, 8))


def weights(model: Any) -> dict[str, Tensor]:
    """The UNet's own parameters by canonical name, without the patches that the MODEL carries.

    ModelError when they are quantised, or when nothing in it reads the text.
    """
    keys = model.get_key_patches(PREFIX)
    found = {key: patches[0][0] for key, patches in keys.items()}
    if family(model) in TRANSFORMERS:
        return _read(found)
    check_trainable(model, found)
    if not any(reads_text(key) for key in found):
        raise ModelError(f"this MODEL has no text cross-attention (no attn2.to_k weights). {SUPPORTED}")
    return found


def check_trainable(model: Any, own: Mapping[str, Tensor], also: tuple[torch.dtype, ...] = ()) -> None:
    """ModelError when weights are quantised, other than by being of the dtypes `also`."""
    config = getattr(model.model, "model_config", None)
    quantised = getattr(config, "scaled_fp8", None) or getattr(config, "layer_quant_config", None)
    odd = {kind for w in own.values() if w.dtype not in also and (kind := _odd_kind(w))}
    if quantised or odd:
        said = ", ".join(sorted(odd)) or "scaled fp8"
        raise ModelError(f"this MODEL's weights are quantised ({said}), which cannot be trained on. {SUPPORTED}")


def _read(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights of a transformer of which only what text meets first has to be read; fp8 can be."""
    row = row_of(own)
    first = f"{PREFIX}{row.first}." if row is not None and row.first else None
    met = [w for k, w in own.items() if reads_text(k) or reads_pooled(k) or (first and k.startswith(first))]
    odd = {kind for w in met if w.dtype not in FP8 and (kind := _odd_kind(w))}
    if odd or row is None:
        said = f"is quantised ({', '.join(sorted(odd))})" if odd else "is missing"
        raise ModelError(
            f"the matrix by which text enters this MODEL {said}, and cannot be read: load the fp16, bf16 or fp8 file. The "
            "erasure that is solved there goes onto quantised files of the same model with the LoRA loader"
        )
    return dict(own)


def patched_weights(model: Any, tune: Tune) -> dict[str, Tensor]:
    """The parameters that `tune` names with the patches that the MODEL carries, float32, in main memory."""
    return _patched(model, lambda key: tuned(key, tune))


def pooled_weights(model: Any) -> dict[str, Tensor]:
    """What reads one vector for a whole text, as `patched_weights`; none in most families."""
    return _patched(model, reads_pooled)


def _patched(model: Any, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    found = {}
    for key, ((weight, convert), *patches) in model.get_key_patches(PREFIX).items():
        if wanted(key):
            own = convert(weight.detach().float().cpu().clone(), inplace=True)
            found[key] = comfy.lora.calculate_weight(patches, own, key)
    return found


def first_network(model: Any) -> Callable[..., Tensor] | None:
    """What makes of the text encoder's states those that the MODEL's matrices read, in float32; None where they read them."""
    row = row_of(model.get_key_patches(PREFIX))
    if row is None or not row.first:
        return None
    name = f"{PREFIX}{row.first}."
    own = {key.removeprefix(name): w for key, w in _patched(model, lambda key: key.startswith(name)).items()}
    network = model.model.diffusion_model.get_submodule(row.first)
    return lambda *states: functional_call(network, own, states)


def text_width(own: Mapping[str, Tensor]) -> int:
    """How many numbers a token of the text encoder has that these weights are made for."""
    row = row_of(own)
    entry = f"{PREFIX}{row.first}.{row.entry}" if row is not None and row.first else ""
    return int(own[entry].shape[1]) if entry else next(int(w.shape[1]) for k, w in own.items() if reads_text(k))


def dtype(own: Mapping[str, Tensor]) -> torch.dtype:
    """The precision of a network's weights, told by what reads its text: some hosts keep a few others in float32."""
    return next(weight.dtype for key, weight in own.items() if reads_text(key))


def base_hash(own: Mapping[str, Tensor]) -> str:
    """The engine's identity of a base model: SHA-256 over the matrices that read text, in fp16."""
    return tensors_hash({k: w.half() for k, w in own.items() if reads_text(k)})


def text_norm(model: Any) -> tuple[Tensor, float] | None:
    """Weight [d] and epsilon of the norm that text states pass before the one matrix that reads them; None without one."""
    keys = model.get_key_patches(PREFIX)
    return next(((keys[key][0][0].detach(), eps) for key, eps in NORMS.items() if key in keys), None)


def schedule(model: Any) -> Schedule:
    """The noise schedule, whichever node put it there (ModelSamplingDiscrete, ModelSamplingFlux and their like)."""
    sampling = model.get_model_object("model_sampling")
    flows = {comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.ModelSamplingFlux}
    bases = set(type(sampling).__bases__)
    row = row_of(model.get_key_patches(PREFIX))
    transformer = row is not None and row is not STABLE_DIFFUSION  # a UNet is told the time otherwise
    if transformer and comfy.model_sampling.CONST in bases and flows & bases:
        return FlowSchedule(sampling.sigmas.detach().cpu().double())
    kinds = {"epsilon": comfy.model_sampling.EPS, "v_prediction": comfy.model_sampling.V_PREDICTION}
    named = [name for name, kind in kinds.items() if kind in type(sampling).__bases__]
    discrete = comfy.model_sampling.ModelSamplingDiscrete
    if not named or discrete not in type(sampling).__bases__:
        raise ModelError(
            f"this MODEL is sampled as {', '.join(k.__name__ for k in type(sampling).__bases__)}; epsilon and "
            "v-prediction with discrete timesteps are supported: take the ModelSampling node off for training"
        )
    sigmas = sampling.sigmas.detach().cpu().double()
    return NoiseSchedule(1 / (sigmas**2 + 1), "v_prediction" if "v_prediction" in named else "epsilon")


def file_names(model: Any, keys: Mapping[str, Tensor]) -> dict[str, str]:
    """Canonical module name -> kohya's: diffusers' names for SD1.x, SD2.x and the pocket model, LDM's for the others."""
    modules = dict.fromkeys(key.rpartition(".")[0] for key in keys)
    names = {module: "lora_unet_" + module.removeprefix(PREFIX).replace(".", "_") for module in modules}
    if family(model) in ("sd1", "sd2", "pocket"):
        for diffusers, ldm in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items():
            module = PREFIX + ldm.rpartition(".")[0]
            if module in names:
                names[module] = "lora_unet_" + diffusers.rpartition(".")[0].replace(".", "_")
    return names


def on_cpu(erasure: Erasure) -> Erasure:
    """The same erasure in main memory."""

    def moved(entry: LowRank | Dense) -> LowRank | Dense:
        if isinstance(entry, LowRank):
            return LowRank(entry.up.cpu(), entry.down.cpu(), entry.alpha)
        return Dense(entry.diff.cpu(), entry.bias)

    return replace(erasure, entries={key: moved(entry) for key, entry in erasure.entries.items()})


def apply_erasure(model: Any, erasure: Erasure, strength: float, source: str) -> Any:
    """A MODEL with the erasure as patches, exactly as the stock LoRA loader puts the saved file on; the given one stays.

    RequestError when the model is of another family, or when a single weight does not fit.
    """
    check_fits(erasure, family(model), weights(model))
    if strength == 0:
        return model
    loaded = comfy.lora.load_lora(
        comfy.lora_convert.convert_lora(erasure.tensors()), comfy.lora.model_lora_keys_unet(model.model, {})
    )
    patched = model.clone()
    done = set(patched.add_patches(loaded, strength))
    left = [key for key in erasure.entries if key not in done]
    if left:
        raise RequestError(
            f"{len(left)} of the erasure's {len(erasure.entries)} weights ({left[0]}, ...) found no place in this MODEL: "
            "use the checkpoint that it was made for"
        )
    facts = erasure.facts
    record = Applied(
        facts.get("erasure.targets", "[]"), facts.get("erasure.method", ""), strength, erasure.hash(), source
    )
    patched.set_attachments(ATTACHMENT, [*carried(model), record])
    patched.set_attachments(STACK, [*stack_of(model), (erasure, strength)])
    return patched


def stack_of(model: Any) -> list[tuple[Erasure, float]]:
    """The erasures that a MODEL carries, with their strengths, to tell what they do together."""
    return list(model.get_attachment(STACK) or [])


def unpatched(model: Any) -> Any:
    """The MODEL without what was put on its weights; the given one stays."""
    bare = model.clone()
    bare.patches.clear()
    return bare


def carried(model: Any) -> list[Applied]:
    """The erasures that a MODEL carries, in the order in which they were applied."""
    return list(model.get_attachment(ATTACHMENT) or [])


def carried_facts(model: Any) -> list[dict[str, Any]]:
    """`carried` as plain values."""
    return [asdict(record) for record in carried(model)]
