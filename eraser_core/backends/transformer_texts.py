"""How the pipelines of diffusers 0.42 read a prompt: which encoder, how many tokens, which layer, what is masked.

| family | encoder | tokens | states |
|---|---|---|---|
| Flux.1 | T5 | 512, filled, nothing masked | last; beside them CLIP's pooled text |
| Stable Diffusion 3 | CLIP-L, CLIP-G; T5, if there is one | 77; 256, filled, nothing masked | last but one of both side by side, filled with zeros to T5's width; behind them T5's. Both projected texts |
| Chroma | T5 | its own, the filling masked | last, with one of the filling |
| PixArt | T5 | its own, in small letters | last |
| Wan | UMT5 | its own | last |
| Z-Image | Qwen3, its chat template | template and all | last but one |
| Flux.2 klein | Qwen3, its chat template without thinking | 512, filled, the filling masked | the 9th, 18th and 27th layer side by side, those of the filling too |
| Qwen-Image | Qwen2.5-VL, a template | less the first 34 | last, behind the norm |
| Lumina 2 | Gemma 2, a sentence before the prompt | all | last but one |

A text encoder's filling is computed where it is not masked: T5 then knows of it. Where it is masked it changes nothing, and is left
out. Wan's pipeline also mends broken letters by ftfy, which is not done here; nor is what PixArt's does with `clean_caption`, which
its call sets and `encode_prompt` does not. Lumina 2's reads its negative prompt without the sentence, and here "" has it too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import torch
import transformers
from torch import Tensor
from torch.nn.functional import pad
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ..errors import ModelError, RequestError
from ..text_places import LENGTH
from .clip_tokens import ClipTokens, folder_tokens
from .folder import part_config, text_encoder, weights
from .streamed import streamed
from .text_encoders import OPEN_CLIP_PAD
from .transformer_folder import FLUX_PIPELINES, SD3, WAN_PIPELINES, TransformerFolder

TOKENS_AT_ONCE = 8192
SHORT = 256  # at most what a prompt of a language model takes: all its layers are kept while it is read
LUMINA = (
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based on textual "
    "prompts or user prompts. <Prompt Start> {}"
)
QWEN = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of "
    "the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
QWEN_LEFT_OUT = 34
KLEIN_LAYERS = (9, 18, 27)


class Piece(Protocol):
    """One encoder, or two side by side. `left_out`: tokens at the start without states; `at_once`: prompts a forward."""

    left_out: int
    at_once: int

    def ids(self, prompt: str) -> Sequence[int]:
        """A prompt's tokens with its template, without filling."""

    def states(self, prompts: Sequence[str]) -> list[Tensor]:
        """Those that the model reads [n, d] of each prompt, as many as it has, on the CPU."""


@dataclass(frozen=True)
class Texts:
    """The encoders whose states follow each other, and what gives one vector [len(prompts), p] for a whole prompt."""

    pieces: tuple[Piece, ...]
    vectors: Callable[[Sequence[str]], Tensor] | None = None


@dataclass(frozen=True)
class T5Reading:
    """How a pipeline has T5 read: `most` tokens, longer prompts are cut. Shorter ones are filled to as many, with nothing masked;
    or where `masked` they are not, and `shown` tokens of the filling are read with the words. `clean` is done to a prompt first."""

    most: int
    masked: bool = True
    shown: int = 0
    clean: Callable[[str], str] = str


def _small(prompt: str) -> str:
    return prompt.lower().strip()


def _spaced(prompt: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()


T5_READING = {
    **dict.fromkeys(FLUX_PIPELINES, T5Reading(512, masked=False)),
    "StableDiffusion3Pipeline": T5Reading(256, masked=False),
    "ChromaPipeline": T5Reading(512, shown=1),
    "PixArtAlphaPipeline": T5Reading(120, clean=_small),
    "PixArtSigmaPipeline": T5Reading(300, clean=_small),
    **dict.fromkeys(WAN_PIPELINES, T5Reading(226, clean=_spaced)),
}


class T5Text:
    """T5, or for Wan UMT5."""

    left_out = 0

    def __init__(self, tokenizer: Any, model: Any, reading: T5Reading):
        self._tokenizer, self._model, self._how = tokenizer, model, reading
        self.at_once = TOKENS_AT_ONCE // (SHORT if reading.masked else reading.most)

    def ids(self, prompt: str) -> Sequence[int]:
        words = self._how.clean(prompt)
        found: list[int] = self._tokenizer(words, truncation=True, max_length=self._how.most).input_ids
        return found

    def states(self, prompts: Sequence[str]) -> list[Tensor]:
        rows, how = [self.ids(prompt) for prompt in prompts], self._how
        n = max(map(len, rows)) + how.shown if how.masked else how.most
        ids, mask = (t.to(self._model.device) for t in _filled(rows, self._tokenizer.pad_token_id, n))
        out = self._model(input_ids=ids, attention_mask=mask if how.masked else None).last_hidden_state.cpu()
        return [out[i, : len(row) + how.shown if how.masked else n] for i, row in enumerate(rows)]


@dataclass(frozen=True)
class LanguageReading:
    """How a pipeline has a language model read: the words round a prompt; the layers whose states stand side by side, where -1 is
    behind the last norm; how many of the first tokens have no states; whether the states of the filling are read too."""

    template: Callable[[str], str]
    layers: tuple[int, ...]
    left_out: int = 0
    filled: bool = False


class LanguageText:
    """A language model."""

    at_once = TOKENS_AT_ONCE // SHORT

    def __init__(self, tokenizer: Any, model: Any, reading: LanguageReading):
        self._tokenizer, self._model, self._how = tokenizer, model, reading
        self.left_out = reading.left_out

    def ids(self, prompt: str) -> Sequence[int]:
        return self._tokens(self._how.template(prompt).rstrip())  # behind the words of Lumina 2's sentence is a space

    def _tokens(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text).input_ids
        return found

    def states(self, prompts: Sequence[str]) -> list[Tensor]:
        rows = [self._tokens(self._how.template(prompt)) for prompt in prompts]
        # In a causal model what stands behind changes nothing, and filling that is masked knows of the words alone.
        n = max(LENGTH if self._how.filled else 0, *map(len, rows))
        ids, mask = (t.to(self._model.device) for t in _filled(rows, self._tokenizer.pad_token_id, n))
        found = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        out = torch.cat([found.hidden_states[layer] for layer in self._how.layers], -1).cpu()
        return [out[i, self.left_out : n if self._how.filled else len(row)] for i, row in enumerate(rows)]


class TwoClips:
    """CLIP-L and CLIP-G of Stable Diffusion 3, their states beside each other and zeros up to `width`."""

    left_out, at_once = 0, 16

    def __init__(self, clips: Sequence[tuple[ClipTokens, Any, int]], width: int):
        self._clips, self._width = clips, width

    def ids(self, prompt: str) -> Sequence[int]:
        return self._clips[0][0].row(prompt)

    def states(self, prompts: Sequence[str]) -> list[Tensor]:
        both = torch.cat([out.hidden_states[-2].cpu() for out in self._read(prompts)], -1)
        return list(pad(both, (0, max(self._width - both.shape[-1], 0))))

    def vectors(self, prompts: Sequence[str]) -> Tensor:
        """Both projected texts [len(prompts), p]."""
        return torch.cat([out.text_embeds.cpu() for out in self._read(prompts)], -1)

    def _read(self, prompts: Sequence[str]) -> list[Any]:
        return [
            model(input_ids=_clip_ids(tokens, prompts, filling).to(model.device), output_hidden_states=True)
            for tokens, model, filling in self._clips
        ]


def texts_of(folder: TransformerFolder, width: int, device: str) -> Texts:
    """The encoders of a folder, whose states are to have `width` numbers; ModelError or FileFormatError for a part that is missing."""
    family = folder.family
    if family == "flux1":
        return Texts((_t5(folder, "text_encoder_2", "tokenizer_2", device),), _pooled_clip(folder, device))
    if family == SD3:
        clips = TwoClips([_clip(folder, end, device) for end in ("", "_2")], width)
        last = (_t5(folder, "text_encoder_3", "tokenizer_3", device),) if folder.has("text_encoder_3") else ()
        return Texts((clips, *last), clips.vectors)
    if family in ("z-image", "flux2", "qwen-image", "lumina2"):
        return Texts((_language(folder, device),))
    return Texts((_t5(folder, "text_encoder", "tokenizer", device),))


def _t5(folder: TransformerFolder, part: str, tokenizer: str, device: str) -> T5Text:
    said = part_config(folder.path, folder.part(part).name)
    words = _tokenizer(folder, tokenizer)
    name = "UMT5" if folder.family == "wan" else "T5"
    kind, sizes = _class(f"{name}EncoderModel"), _class(f"{name}Config")(**said)
    model = streamed(lambda: kind(sizes), lambda m: m.encoder.block, weights(folder.path / part), device)
    return T5Text(words, model, T5_READING[folder.pipeline])


def _language(folder: TransformerFolder, device: str) -> LanguageText:
    said, files = part_config(folder.path, folder.part("text_encoder").name), weights(folder.path / "text_encoder")
    words = _tokenizer(folder, "tokenizer")
    if folder.family == "qwen-image":
        sizes, kind = _class("Qwen2_5_VLConfig")(**said).get_text_config(), _class("Qwen2_5_VLTextModel")
        reading = LanguageReading(QWEN.format, (-1,), QWEN_LEFT_OUT)
    elif folder.family in ("z-image", "flux2"):
        sizes, kind = _class("Qwen3Config")(**said), _class("Qwen3Model")
        klein = folder.family == "flux2"
        chat = _chat(words, folder, thinks=not klein)
        reading = LanguageReading(chat, KLEIN_LAYERS, filled=True) if klein else LanguageReading(chat, (-2,))
    else:
        sizes, kind = _class("Gemma2Config")(**said), _class("Gemma2Model")
        reading = LanguageReading(LUMINA.format, (-2,))
    return LanguageText(words, streamed(lambda: kind(sizes), lambda m: m.layers, files, device), reading)


def _class(name: str) -> Any:
    """One of transformers' classes, of which older versions lack some."""
    found = getattr(transformers, name, None)
    if found is None:
        raise ModelError(
            f"transformers {transformers.__version__} has no {name}, by which this model reads a prompt: install a newer one"
        )
    return found


def _chat(tokenizer: Any, folder: TransformerFolder, thinks: bool) -> Callable[[str], str]:
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"{folder.path / 'tokenizer'} holds no chat template, into which {folder.said} puts a prompt: fetch its files again"
        )

    def put(prompt: str) -> str:
        said = [{"role": "user", "content": prompt}]
        found: str = tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=True, enable_thinking=thinks
        )
        return found

    return put


def _clip(folder: TransformerFolder, end: str, device: str) -> tuple[ClipTokens, Any, int]:
    part = folder.part(f"text_encoder{end}").name
    tokens = folder_tokens(folder.part(f"tokenizer{end}"))
    model = text_encoder(folder.path, part, CLIPTextModelWithProjection, device, torch.float32)
    return tokens, model, OPEN_CLIP_PAD if end else tokens.end


def _pooled_clip(folder: TransformerFolder, device: str) -> Callable[[Sequence[str]], Tensor]:
    tokens = folder_tokens(folder.part("tokenizer"))
    model = text_encoder(folder.path, folder.part("text_encoder").name, CLIPTextModel, device, torch.float32)

    def vectors(prompts: Sequence[str]) -> Tensor:
        found: Tensor = model(input_ids=_clip_ids(tokens, prompts, tokens.end).to(model.device)).pooler_output
        return found.cpu()

    return vectors


def _clip_ids(tokens: ClipTokens, prompts: Sequence[str], filling: int) -> Tensor:
    long = next((prompt for prompt in prompts if tokens.excess(prompt)), None)
    if long is not None:
        raise RequestError(
            f"a prompt is {tokens.excess(long)} tokens longer than CLIP reads: shorten {long[:LENGTH]!r}"
        )
    return tokens.ids(prompts, filling)


def _tokenizer(folder: TransformerFolder, name: str) -> Any:
    """transformers' own of a folder on this disk; nothing is fetched, and no code of the folder's runs."""
    path = folder.part(name)
    if find_spec("sentencepiece") is None and not (path / "tokenizer.json").is_file() and list(path.glob("*.model")):
        raise ModelError(
            f"the tokenizer in {path} is one of sentencepiece's, which is not installed: pip install sentencepiece protobuf"
        )
    try:
        return transformers.AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing narrower
        said = str(error).split("\n")[0]
        raise ModelError(f"the tokenizer in {path} cannot be read ({said}): fetch its files again") from error


def _filled(rows: Sequence[Sequence[int]], filling: int, n: int) -> tuple[Tensor, Tensor]:
    """Ids and mask [len(rows), n], filled behind the words."""
    ids = torch.tensor([[*row, *[filling] * (n - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (n - len(row)) for row in rows])
    return ids, mask
