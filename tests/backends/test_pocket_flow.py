"""The shipped flow-matching model by its name: it draws what is asked for, is erased, and its checkpoint is told apart."""

import shutil

import pytest
import torch

from eraser_core.backends.find import find_model
from eraser_core.backends.pocket import load_pocket_denoiser
from eraser_core.backends.stored_model import Loading
from eraser_core.erasing import erase
from eraser_core.erasure import FrozenEdit
from eraser_core.errors import ModelError
from eraser_core.general_words import general_prompts
from eraser_core.methods import METHODS
from eraser_core.models import open_model
from eraser_core.pocket.model import FLOW_WEIGHTS
from eraser_core.request import Request, Target
from eraser_core.text_moments import moment, reader_hash, whole_vocabulary

KNOWN = ("guitar", "banana", "apple", "camera")


@pytest.fixture(scope="module")
def model():
    return open_model("pocket-flow")


def test_it_draws_what_is_asked_for_and_nothing_of_an_erased_concept(model):
    seen = model.examiner.images([f"a {name}" for name in KNOWN], range(len(KNOWN)))
    right = [name == found for name, (found, _) in zip(KNOWN, model.examiner.judge.name(seen), strict=True)]
    assert sum(right) >= 3
    method = METHODS["uce"]
    request = Request((Target("banana", anchor="a key"),), ("a guitar", "an apple", "a camera"), seed=0)
    erasure = erase(model.denoiser, request, method, method.configure("pocket-flow", {})).erasure
    edit = FrozenEdit({key: entry.delta() for key, entry in erasure.entries.items()})
    context, null = model.denoiser.encode(["a banana", "a guitar"]), model.denoiser.encode([""])
    z, t = torch.randn(2, *model.denoiser.latent_shape), torch.tensor([900, 900])
    with torch.no_grad():
        moved = model.denoiser.predict(z, t, context, edit) - model.denoiser.predict(z, t, context)
    assert float(moved[0].norm()) > 3 * float(moved[1].norm())
    assert len(null) == 1


def test_both_pocket_models_know_the_same_words_and_are_not_mistaken_for_each_other(model):
    first = load_pocket_denoiser()
    assert model.denoiser.vocabulary == first.vocabulary and torch.equal(
        model.denoiser.encode(["a church"]).tokens, first.encode(["a church"]).tokens
    )
    assert (model.denoiser.family, first.family) == ("pocket-flow", "pocket")
    assert model.denoiser.base_hash != first.base_hash


def test_a_vocabulary_read_by_one_model_is_not_taken_for_the_others_that_shares_its_text_encoder(model):
    unet = load_pocket_denoiser()
    first, second = whole_vocabulary(unet), whole_vocabulary(model.denoiser)
    torch.testing.assert_close(second, moment(model.denoiser, general_prompts("pocket-flow")))
    assert float((first - second).norm()) > 0.1 * float(second.norm())
    assert reader_hash(unet) == reader_hash(load_pocket_denoiser())


def test_its_file_is_opened_by_its_name_and_a_cut_one_is_refused(tmp_path):
    with pytest.raises(ModelError, match="--model pocket-flow"):
        find_model(str(FLOW_WEIGHTS), Loading(device="cpu"), False)
    shutil.copy(FLOW_WEIGHTS.with_suffix(".json"), tmp_path / "cut.json")
    shutil.copy(FLOW_WEIGHTS.with_name("pocket.safetensors"), tmp_path / "cut.safetensors")
    with pytest.raises(ModelError, match=r"lacks model\.diffusion_model\.x_embedder"):
        load_pocket_denoiser(tmp_path / "cut.safetensors")
