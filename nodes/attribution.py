"""*Attribution Map*: which part of a picture a word is responsible for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import comfy.utils
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from eraser_core.denoiser import Context
from eraser_core.errors import RequestError
from eraser_core.evaluation.metrics.attention import word_positions
from eraser_core.evaluation.metrics.attribution import heat_maps, overlay
from eraser_core.sampling import noise_for

from .compare import grid
from .host import model as host_model
from .host import schema
from .host.denoiser import HostDenoiser
from .host.preview import check_vae, decode, say
from .host.schema import auto, checked, node_schema

SAMPLING = {"pocket": (16, 3.0)}  # steps, guidance scale
OTHERS = (25, 7.5)
SHOWN = 256  # pixels: smaller pictures are enlarged under the maps
NOT_READ = ("area", "mask", "control")  # of a conditioning


class AttributionMap(io.ComfyNode):
    """Draws pictures of a prompt and lays over them where they attend to its words (DAAM, arXiv 2210.04885)."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "AttributionMap",
            "Attribution Map",
            "Draws pictures of a prompt and shows which part of them each of its words is responsible for: red where the "
            "picture attends to the word most. The same seed before and after an erasure shows what became of a word.",
            _inputs(),
            [
                io.Image.Output(display_name="maps", tooltip="One picture: the drawings, and below them a row a word."),
                io.Image.Output(display_name="pictures", tooltip="The drawings alone."),
                io.Mask.Output(
                    display_name="masks", tooltip="The maps alone, in the drawings' size, 1 where each is highest."
                ),
                io.String.Output(display_name="text", tooltip="How much attention each word gets, in words."),
            ],
            aliases=(*schema.ALIASES, "attention", "heat map", "daam", "explain", "cross-attention"),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @checked
    def execute(cls, model: Any, clip: Any, vae: Any, **values: Any) -> io.NodeOutput:
        with torch.inference_mode(False), torch.no_grad():
            sheet, pictures, masks, text = attribute(model, clip, vae, values)
        say(text, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(sheet, pictures, masks, text)


def _inputs() -> list[Any]:
    return [
        io.Model.Input(
            "model", tooltip="The model that draws, with or without an erasure: SD1.x, SD2.x, SDXL or pocket."
        ),
        io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
        io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
        io.Conditioning.Input(
            "positive",
            optional=True,
            tooltip="Used in place of the prompt's own text, such as what comes out of Hidden Prompt Inject. It must have "
            "been encoded from the prompt below.",
        ),
        io.Conditioning.Input("negative", optional=True, tooltip="The negative text. Empty: none."),
        io.String.Input(
            "prompt", multiline=True, default="a church", tooltip="What is drawn. Without weights such as (church:1.2)."
        ),
        io.String.Input(
            "words",
            multiline=True,
            default="church",
            tooltip="Words of the prompt to look at, one (or a phrase) a line.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**62,
            control_after_generate=False,
            tooltip="The same seed, the same pictures.",
        ),
        _integer("steps", 1000, "Sampling steps. 0 is what suits the model (pocket 16, others 25)."),
        auto(
            io.Float.Input,
            "cfg",
            0,
            min=0,
            max=100,
            step=0.5,
            tooltip="Guidance scale. 0 is what suits the model (pocket 3, others 7.5).",
            advanced=True,
        ),
        _integer("width", 4096, "Width of the pictures in pixels. 0 is the model's own.", 8),
        _integer("height", 4096, "Height of the pictures in pixels. 0 is the model's own.", 8),
        io.Int.Input("batch", default=4, min=1, max=64, tooltip="How many pictures."),
    ]


def _integer(name: str, high: int, tooltip: str, step: int = 1) -> Any:
    return auto(io.Int.Input, name, 0, min=0, max=high, step=step, tooltip=tooltip, advanced=True)


def attribute(model: Any, clip: Any, vae: Any, values: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, str]:
    """(sheet [1, h, w, 3], pictures [b, h, w, 3], masks [words x b, h, w], text)."""
    prompt, batch = values["prompt"], values["batch"]
    words = list(dict.fromkeys(word.strip() for word in values["words"].splitlines() if word.strip()))
    if not words:
        raise RequestError("the box 'words' is empty: type a word of the prompt, such as church")
    if not prompt.strip():
        raise RequestError("the box 'prompt' is empty: type what is to be drawn, such as a church")
    if re.search(r"(?<!\\)[()]", prompt):
        raise RequestError(
            f"the prompt {prompt!r} has weights or brackets: write it without, the map would miss the word"
        )
    size, (steps, guidance) = host_model.own_size(model), SAMPLING.get(host_model.family(model), OTHERS)
    steps, guidance = values["steps"] or steps, values["cfg"] or guidance
    denoiser = HostDenoiser(model, clip, values["width"] or size, values["height"] or size)
    check_vae(vae, denoiser)
    own = denoiser.encode([prompt])
    positions = {word: word_positions(denoiser, prompt, word) for word in words}
    positive = _context(denoiser, "positive", values.get("positive")) or own
    negative = _context(denoiser, "negative", values.get("negative")) or denoiser.encode([""])
    noise = noise_for(denoiser.latent_shape, values["seed"], range(batch)).to(denoiser.device)
    bar, total = comfy.utils.ProgressBar(100), batch * steps * (2 if guidance > 1 else 1)
    denoiser.on_forward = lambda rows: bar.update_absolute(100 * rows.no_grad // total, 100)
    parts = [
        heat_maps(denoiser, z, positive.expand(len(z)), negative, steps, guidance) for z in _fitting(denoiser, noise)
    ]
    pictures = decode(vae, denoiser, torch.cat([part.latents for part in parts]))
    found = {word: torch.cat([part.of(where) for part in parts]) for word, where in positions.items()}
    sheet, masks = _sheet(pictures, found)
    return sheet, pictures, masks, _text(prompt, found, torch.equal(own.tokens, positive.tokens))


def _context(denoiser: HostDenoiser, name: str, conditioning: list[Any] | None) -> Context | None:
    """A CONDITIONING of one plain text as a context [1, n, d]; None where nothing is connected."""
    if conditioning is None:
        return None
    parts = [(tokens, options) for tokens, options in conditioning if not any(k in options for k in NOT_READ)]
    if len(conditioning) != 1 or len(parts) != 1 or len(parts[0][0]) != 1:
        raise RequestError(
            f"{name} is more than one plain text (combined texts, regions, masks or a ControlNet): connect CLIP Text Encode, "
            "or Hidden Prompt Inject behind it"
        )
    tokens, options = parts[0]
    return denoiser.context(tokens, options.get("pooled_output"))


def _fitting(denoiser: HostDenoiser, noise: Tensor) -> Iterator[Tensor]:
    """The noise in parts whose both halves of the guidance run in one forward, as `heat_maps` tells them apart."""
    denoiser.load()
    b = max(1, denoiser.rows_at_once // 2)
    for part in noise.split(b):
        denoiser.rows_at_once = max(denoiser.rows_at_once, 2 * len(part))
        yield part


def _sheet(pictures: Tensor, found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(the pictures and below them a row of maps over them a word, [1, h, w, 3]; the maps [words x b, h, w] up to 1)."""
    scale = max(1, -(-SHOWN // max(pictures.shape[1:3])))
    shown = pictures.movedim(-1, 1).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    rows, masks = [shown.movedim(1, -1)], []
    for maps in found.values():
        rows.append(overlay(shown, maps).movedim(1, -1))
        mask = F.interpolate(maps[:, None], size=tuple(pictures.shape[1:3]), mode="bilinear")[:, 0]
        masks.append(mask / mask.amax((1, 2), keepdim=True).clamp(min=1e-12))
    return grid(rows, ["", *(f"{word}: {_share(maps)}" for word, maps in found.items())]), torch.cat(masks)


def _share(maps: Tensor) -> str:
    return f"{100 * float(maps.mean()):.2f} % of the attention"


def _text(prompt: str, found: dict[str, Tensor], plain: bool) -> str:
    lines = [
        f"{word}: {_share(maps)}, {100 * float(maps.max()):.2f} % where it is highest" for word, maps in found.items()
    ]
    if not plain:
        lines.append(
            f"the conditioning given is not the plain text of {prompt!r}: words were placed as they stand in it"
        )
    return "\n".join(lines)
