"""The pocket model as a denoiser, or any checkpoint of its layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from ..denoiser import Context, FlowSchedule, NoiseSchedule
from ..errors import RequestError
from ..pocket import PocketModel, load_concepts, load_pocket
from ..pocket.model import FLOW_WEIGHTS, FlowFacts
from .diffusers import DiffusersDenoiser
from .lumina import LuminaWiring


class PocketText:
    """The pocket's word tokenizer and its two-layer text encoder."""

    def __init__(self, model: PocketModel):
        self._model = model
        self.tokens_per_chunk = model.tokenizer.length

    def encode(self, prompts: Sequence[str]) -> Context:
        for prompt in prompts:
            self._known(prompt)
        return Context(self._model.encode_text(list(prompts)))

    def encode_start(self, prompts: Sequence[str], n: int) -> Tensor:
        return self.encode(prompts).tokens[:, :n]  # 16 tokens in all: there is nothing to save

    def token_count(self, prompt: str) -> int:
        return 1 + min(len(self._model.tokenizer.word_ids(prompt)), self.tokens_per_chunk - 2)

    def excess(self, prompt: str) -> int:
        self._known(prompt)
        return max(len(self._model.tokenizer.word_ids(prompt)) - (self.tokens_per_chunk - 2), 0)

    def _known(self, prompt: str) -> None:
        unknown = self._model.tokenizer.unknown_words(prompt)
        if unknown:
            raise RequestError(
                f"the pocket model does not know the word {unknown[0]!r} (in {prompt!r}): "
                f"`python -m eraser_core info --model pocket` lists what it can draw{load_concepts().near(unknown[0])}"
            )

    def release(self) -> None:
        """It is too small to be let go of."""


class PocketDenoiser(DiffusersDenoiser):
    """A pocket model behind the engine's seam, with the sampling settings its figures are for."""

    def __init__(self, model: PocketModel):
        text, facts = PocketText(model), model.schedule
        if isinstance(facts, FlowFacts):
            flow = FlowSchedule.shifted(facts.shift, facts.num_train_timesteps)
            wiring = LuminaWiring(model.network, flow, facts.time_scale)
            super().__init__("pocket-flow", wiring, text, model.autoencoder, flow)
        else:
            schedule = NoiseSchedule(facts.alphas_cumprod(), "epsilon")
            super().__init__("pocket", model.network, text, model.autoencoder, schedule)
        self.guidance, self.steps, self._model = model.guidance, model.steps, model

    def encode_images(self, images: Tensor) -> Tensor:
        """Latents [b, 8, 8, 8] of pictures [b, 3, 64, 64] in [0, 1]."""
        return self._model.encode_images(images.to(self.device))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word of the tokenizer, by its number."""
        return self._model.tokenizer.vocabulary

    @property
    def word_embeddings(self) -> Tensor:
        """[words, d]: what the text encoder reads of each."""
        weight: Tensor = self._model.text_encoder.get_input_embeddings().weight
        return weight.detach()

    def encode_changed(self, prompts: Sequence[str], change: Callable[[Tensor], Tensor]) -> Context:
        """Contexts [len(prompts), n, d] with the words' embeddings [len(prompts), n, d] changed; gradients flow."""
        words = self._model.text_encoder.get_input_embeddings()
        hook = words.register_forward_hook(lambda module, given, embedded: change(embedded))
        try:
            return Context(self._model.encode_text(list(prompts)))
        finally:
            hook.remove()


def load_pocket_denoiser(path: Path | None = None, device: str = "cpu") -> PocketDenoiser:
    """The shipped pocket model, or the checkpoint at `path` with its JSON beside it."""
    return PocketDenoiser(load_pocket(path, device))


def load_pocket_flow(device: str = "cpu") -> PocketDenoiser:
    """The second shipped pocket model: a transformer trained by flow matching."""
    return load_pocket_denoiser(FLOW_WEIGHTS, device)
