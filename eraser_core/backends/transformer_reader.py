"""A transformer's folder as what a closed form asks for: text states and the few matrices that read them, float32 on the CPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, rms_norm

from ..denoiser import Context, Prediction, Tune
from ..errors import ModelError
from ..files import tensors_hash
from ..text_layers import NORMS, reads_pooled, reads_text, row_of
from ..text_places import LENGTH, Places, Pooled, Stretch, at_length
from ..text_readers import TextReader
from .transformer_folder import PREFIX, TransformerFolder
from .transformer_texts import Piece, texts_of

log = logging.getLogger(__name__)
MOST_KEPT = 256  # prompts whose states are not read again; of T5-XXL each has 1 MB
AT_ONCE = 16  # pooled texts
SAID_EVERY = 60.0  # seconds


class TransformerReader:
    """A `TextModel`. `schedule` says what the network predicts, which nothing here computes."""

    def __init__(self, folder: TransformerFolder, device: str = "cpu"):
        self.family, self.schedule = folder.family, Says(folder.prediction)
        own = folder.matrices()
        self._read = {key: weight for key, weight in own.items() if reads_text(key)}
        self._pooled = {key: weight for key, weight in own.items() if reads_pooled(key)}
        self._norm = next(((own[key], eps) for key, eps in NORMS.items() if key in own), None)
        self._first = _first_network(folder, own)
        self.base_hash = tensors_hash(self._read, torch.float16)
        self._given = self._first.given if self._first else next(iter(self._read.values())).shape[1]
        texts = texts_of(folder, self._given, device)
        self._texts, self._place = texts.pieces, str(folder.path)
        self._vectors = texts.vectors
        self._pieces = tuple(Stretch(self, i, Places(piece.ids, piece.left_out)) for i, piece in enumerate(self._texts))
        self._known: dict[str, Tensor] = {}
        self._count, self._said = 0, time.monotonic()

    def encode(self, prompts: Sequence[str]) -> Context:
        """[len(prompts), 64 for each encoder, d]: cut or filled with zeros to one length."""
        missing = list(dict.fromkeys(prompt for prompt in prompts if prompt not in self._known))
        found = {prompt: self._known[prompt] for prompt in prompts if prompt in self._known}
        parts = [self._of_piece(piece, missing) for piece in self._texts] if missing else []
        found |= {prompt: torch.cat([part[i] for part in parts]) for i, prompt in enumerate(missing)}
        self._known = dict(list({**self._known, **found}.items())[-MOST_KEPT:])
        return Context(torch.stack([found[prompt] for prompt in prompts]))

    def _of_piece(self, piece: Piece, prompts: Sequence[str]) -> list[Tensor]:
        found: list[Tensor] = []
        with torch.no_grad():
            for first in range(0, len(prompts), piece.at_once):
                part = prompts[first : first + piece.at_once]
                found += [self._fits(states) for states in piece.states(part)]
                if piece is self._texts[-1]:  # of Stable Diffusion 3 that is T5, which takes the time
                    self._tell(len(part))
        return found

    def _fits(self, states: Tensor) -> Tensor:
        """[n, d] as a stretch [64, d]; what fills it knows of nothing."""
        cut = states[:LENGTH].float()
        if cut.shape[-1] != self._given:
            raise ModelError(
                f"the text encoder in {self._place} gives {cut.shape[-1]} numbers a token, and the transformer reads "
                f"{self._given}: put the parts of one model together"
            )
        read = cut if self._first is None else self._first(cut)
        return at_length(read[None])[0]

    def _tell(self, count: int) -> None:
        self._count += count
        if time.monotonic() - self._said > SAID_EVERY:
            self._said = time.monotonic()
            log.info("%d prompts read", self._count)

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        return self.encode(prompts).tokens[:, :n]

    def as_read(self, tokens: Tensor) -> Tensor:
        if self._norm is None:
            return tokens
        norm, eps = self._norm
        return rms_norm(tokens, norm.shape, norm, eps)

    def token_count(self, prompt: str) -> int:
        return self._pieces[0].token_count(prompt)

    def stretches(self) -> Sequence[TextReader]:
        """The encoders whose states follow each other, where there are several."""
        return self._pieces if len(self._pieces) > 1 else (self,)

    def places(self) -> Sequence[TextReader]:
        """The tokens, and in some families the pooled text."""
        if self._vectors is None:
            return (self,)
        return self, Pooled(self.family, self._pooled_texts(self._vectors), self._pooled)

    def _pooled_texts(self, read: Callable[[Sequence[str]], Tensor]) -> Callable[[Sequence[str]], Tensor]:
        (width,) = {weight.shape[1] for weight in self._pooled.values()}

        def vectors(prompts: Sequence[str]) -> Tensor:
            with torch.no_grad():
                found = torch.cat([read(prompts[i : i + AT_ONCE]).float() for i in range(0, len(prompts), AT_ONCE)])
            if found.shape[-1] != width:
                raise ModelError(
                    f"CLIP in {self._place} gives a pooled text of {found.shape[-1]} numbers, and the transformer reads {width}: "
                    "put the parts of one model together"
                )
            return found

        return vectors

    def weights(self, tune: Tune) -> Mapping[str, Tensor]:
        """What reads the tokens, whatever `tune` says: nothing else is read from the disk."""
        return self._read

    def file_names(self) -> Mapping[str, str]:
        modules = [key.rpartition(".")[0] for key in (*self._read, *self._pooled)]
        return {module: "lora_unet_" + module.removeprefix(PREFIX).replace(".", "_") for module in modules}


@dataclass(frozen=True)
class Says:
    """As much of a schedule as a file says."""

    prediction: Prediction


class CaptionProjection:
    """What makes of T5's states those that PixArt's blocks read (diffusers' `PixArtAlphaTextProjection`)."""

    def __init__(self, folder: TransformerFolder):
        one, two = (f"caption_projection.linear_{i}" for i in (1, 2))
        self._one = folder.tensor(f"{one}.weight"), folder.tensor(f"{one}.bias")
        self._two = folder.tensor(f"{two}.weight"), folder.tensor(f"{two}.bias")
        self.given = int(self._one[0].shape[1])

    def __call__(self, states: Tensor) -> Tensor:
        """[n, d] of [n, `given`]."""
        return linear(gelu(linear(states, *self._one), approximate="tanh"), *self._two)


def _first_network(folder: TransformerFolder, own: Mapping[str, Tensor]) -> CaptionProjection | None:
    row = row_of(own)
    return CaptionProjection(folder) if row is not None and row.first else None
