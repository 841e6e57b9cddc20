"""A diffusers UNet as a `Denoiser`, and model folders in diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from torch.func import functional_call
from transformers import CLIPTextModel, CLIPTokenizer

from ..denoiser import Context, Edit, NoiseSchedule, Rows, Tune, tuned
from ..errors import ModelError
from ..files import tensors_hash
from .ldm_keys import diffusers_to_ldm


class TextEncoder(Protocol):
    """Prompts to contexts."""

    tokens_per_chunk: int

    def encode(self, prompts: Sequence[str]) -> Context: ...

    def token_count(self, prompt: str) -> int: ...


class DiffusersDenoiser:
    """One frozen UNet: the teacher as it is, the student under an edit, which `functional_call` puts in for one forward."""

    def __init__(
        self,
        family: str,
        unet: UNet2DConditionModel,
        text: TextEncoder,
        autoencoder: AutoencoderKL | AutoencoderTiny,
        schedule: NoiseSchedule,
        scaling: float,
    ):
        self.family, self.schedule, self.rows = family, schedule, Rows()
        self.tokens_per_chunk = text.tokens_per_chunk
        self._unet, self._text, self._autoencoder, self._scaling = unet.eval(), text, autoencoder, scaling
        unet.requires_grad_(False)
        autoencoder.requires_grad_(False)
        self.device = next(unet.parameters()).device
        size = unet.config.sample_size
        self.latent_shape = (int(unet.config.in_channels), int(size), int(size))
        ldm = diffusers_to_ldm(unet.config)
        self._own_name = {f"diffusion_model.{name}": own for own, name in ldm.items()}
        self._parameters = dict(unet.named_parameters())
        kv = self.weights("xattn-kv")
        self.base_hash = tensors_hash({key: weight.half() for key, weight in kv.items()})

    @property
    def unet(self) -> UNet2DConditionModel:
        """The network itself, for whoever listens to its layers."""
        return self._unet

    def encode(self, prompts: Sequence[str]) -> Context:
        with torch.no_grad():
            return self._text.encode(prompts)

    def token_count(self, prompt: str) -> int:
        return self._text.token_count(prompt)

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        return {key: self._parameters[own] for key, own in self._own_name.items() if tuned(key, tune)}

    def all_weights(self) -> Mapping[str, Tensor]:
        """Every parameter by canonical name."""
        return {key: self._parameters[own] for key, own in self._own_name.items()}

    def file_names(self) -> Mapping[str, str]:
        """kohya names modules as diffusers does for SD1.x and SD2.x, and as LDM does for SDXL."""
        names = {}
        for key, own in self._own_name.items():
            module = key.rpartition(".")[0]
            said = module.removeprefix("diffusion_model.") if self.family == "sdxl" else own.rpartition(".")[0]
            names[module] = "lora_unet_" + said.replace(".", "_")
        return names

    def predict(self, z_t: Tensor, t: Tensor, context: Context, edit: Edit | None = None) -> Tensor:
        self.rows.add(len(t))
        tokens, changed = context.tokens, {}
        if edit is not None:
            tokens = edit.tokens(tokens)
            changed = {self._own_name[k]: edit.weight(k, self._parameters[self._own_name[k]]) for k in edit.keys}
        dtype = self._unet.dtype
        added = None
        if context.pooled is not None:
            added = {"text_embeds": context.pooled.to(dtype), "time_ids": context.size_ids}
        arguments = {"encoder_hidden_states": tokens.to(dtype), "added_cond_kwargs": added, "return_dict": False}
        return functional_call(self._unet, changed, (z_t.to(dtype), t), arguments)[0].float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [b, 3, h, w] in [0, 1] of latents [b, c, h / 8, w / 8], on the CPU."""
        images = [
            self._autoencoder.decode(part.to(self._autoencoder.dtype) / self._scaling).sample
            for part in latents.split(16)
        ]
        return (torch.cat(images).float() / 2 + 0.5).clamp(0, 1).cpu()


class ClipText:
    """One CLIP text encoder, as SD1.x and SD2.x use it: the last hidden state, padded to 77 tokens."""

    tokens_per_chunk = 77

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel):
        self._tokenizer, self._model = tokenizer, model.eval()

    def encode(self, prompts: Sequence[str]) -> Context:
        ids = self._tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=self.tokens_per_chunk, return_tensors="pt"
        ).input_ids
        return Context(self._model(ids.to(self._model.device))[0])

    def token_count(self, prompt: str) -> int:
        return len(self._tokenizer(prompt, truncation=True, max_length=self.tokens_per_chunk).input_ids) - 1


def load_folder(path: Path, device: str = "cpu") -> DiffusersDenoiser:
    """An SD1.x or SD2.x model in diffusers' folder layout, from the disk alone; ModelError says what is missing."""
    parts = ("unet", "text_encoder", "tokenizer", "vae", "scheduler")
    missing = [p for p in parts if not (path / p).is_dir()]
    if missing:
        raise ModelError(f"{path} is no diffusers model folder: it lacks {', '.join(missing)}")
    try:
        unet = UNet2DConditionModel.from_pretrained(path / "unet", local_files_only=True, use_safetensors=True)
        text = CLIPTextModel.from_pretrained(path / "text_encoder", local_files_only=True, use_safetensors=True)
        vae = AutoencoderKL.from_pretrained(path / "vae", local_files_only=True, use_safetensors=True)
        tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
        scheduler = DDIMScheduler.from_pretrained(path / "scheduler", local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot load {path}: {error}".replace("\n", " ")) from error
    schedule = NoiseSchedule(scheduler.alphas_cumprod.double(), scheduler.config.prediction_type)
    family = "sd2" if unet.config.cross_attention_dim == 1024 else "sd1"
    denoiser_text = ClipText(tokenizer, text.to(device))
    return DiffusersDenoiser(
        family, unet.to(device), denoiser_text, vae.to(device), schedule, float(vae.config.scaling_factor)
    )
