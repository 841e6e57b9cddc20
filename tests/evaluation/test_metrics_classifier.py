"""ResNet-50 against torchvision's, and what is said when its weights are missing or of another network."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from made_up import noise, pictures, weights_like
from safetensors.torch import load_file, save_file

from eraser_core.errors import ModelError, RequestError
from eraser_core.evaluation.metrics.classifier import IMAGENETTE, Classifier, ResNet50
from eraser_core.evaluation.metrics.objects import esr, psr

# torchvision 0.28's resnet50 with the weights of `weights_like`, after the transforms of its IMAGENET1K_V1, on
# pictures(2, 300, 240): the first five logits of each.
TORCHVISION = [
    [6293.8687, -1388.3979, -1374.4406, 2662.3806, 2591.5342],
    [6277.7495, -1383.3857, -1342.8353, 2632.4863, 2571.6694],
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet") / "resnet50.safetensors"
    save_file(weights_like(ResNet50().state_dict()), path)
    return path


def test_the_logits_are_torchvisions(weights):
    logits = Classifier(weights).logits(pictures(2, 300, 240))
    assert logits.shape == (2, 1000)
    assert torch.allclose(logits[:, :5], torch.tensor(TORCHVISION), rtol=1e-4, atol=0.1)


def test_large_pictures_are_shrunk_as_torchvision_does(weights):
    prepared = Classifier(weights).prepare(pictures(1, 600, 500))[0]
    assert prepared[0, 0, :4].tolist() == pytest.approx([-0.0764, 0.2427, 0.3504, 0.361], abs=1e-3)
    assert prepared[2, 100, 100:103].tolist() == pytest.approx([0.2574, 1.1176, -0.2684], abs=1e-3)


def test_the_logits_are_torchvisions_own_call(weights):
    models = pytest.importorskip("torchvision.models", reason="only beside the fixed numbers above")
    network = models.resnet50(weights=None).eval()
    network.load_state_dict(load_file(weights))
    prepare = models.ResNet50_Weights.IMAGENET1K_V1.transforms()
    ours = Classifier(weights)
    for images in (pictures(1, 300, 240), pictures(1, 230, 411, seed=1), pictures(1, 600, 500)):
        assert torch.allclose(ours.prepare(images), prepare(images), atol=1e-5)
        with torch.no_grad():
            assert torch.allclose(ours.logits(images), network(prepare(images)), rtol=1e-4, atol=0.1)


def test_it_is_resnet_50():
    parameters = ResNet50().named_parameters()
    assert sum(p.numel() for _, p in parameters) == 25_557_032
    names = ResNet50().state_dict()
    assert len(names) == 320 and "layer1.0.downsample.0.weight" in names and "layer4.2.bn3.running_var" in names


def test_ranks_feed_the_success_rates(weights):
    images = pictures(2, 64, 64)
    classifier = Classifier(weights)
    first = classifier.logits(images).argmax(1).tolist()
    assert classifier.ranks(images, first).tolist() == [0, 0]
    last = classifier.logits(images).argmin(1).tolist()
    rank = classifier.ranks(images, [first[0], last[1]])
    assert rank.tolist() == [0, 999]
    assert (esr(rank).hits, psr(rank).hits, psr(rank, 5).hits) == (1, 1, 1)
    for wrong in ([0], [0, 1000]):
        with pytest.raises(RequestError, match="as many classes"):
            classifier.ranks(images, wrong)


def test_batches_make_no_difference(weights):
    classifier, images = Classifier(weights), pictures(3, 64, 64)
    assert torch.allclose(classifier.logits(images, batch=1), classifier.logits(images), rtol=1e-4, atol=0.1)


def test_imagenette_has_ten_classes():
    assert len(set(IMAGENETTE.values())) == 10 and IMAGENETTE["church"] == 497


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(
        ModelError, match=r"there is no file .*resnet50.*torchvision's ResNet-50.*Nothing is downloaded"
    ):
        Classifier(None)
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(ModelError, match=r"other\.safetensors holds another network: bn1\.weight is missing"):
        Classifier(path)
    save_file({name: torch.zeros(7) for name in ResNet50().state_dict()}, path)
    with pytest.raises(ModelError, match=r"conv1\.weight is of another shape"):
        Classifier(path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"cannot read .*broken\.safetensors"):
        Classifier(broken)


def test_a_pth_file_is_never_read_and_its_conversion_is_told(tmp_path, monkeypatch):
    path = tmp_path / "resnet50.pth"
    torch.save(weights_like(ResNet50().state_dict()), path)

    def never(*_args, **_options):
        raise AssertionError("read")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", never)
        for asked in (path, path.with_suffix(".safetensors")):  # named, or lying where the other is wanted
            with pytest.raises(ModelError, match=r"only safetensors are: convert it once") as error:
                Classifier(asked)
    said = str(error.value).split("`")  # the two lines that the message gives do what it says
    monkeypatch.chdir(tmp_path)
    exec("\n".join((said[1], said[3])))
    assert Classifier(path.with_suffix(".safetensors")).logits(pictures(1, 64, 64)).shape == (1, 1000)


def test_it_downloads_only_when_told_to(monkeypatch, weights):
    asked = []

    class Weights:
        @staticmethod
        def get_state_dict(**options):
            asked.append(options)
            return load_file(weights)

    models = types.ModuleType("torchvision.models")
    models.ResNet50_Weights = types.SimpleNamespace(IMAGENET1K_V2=Weights)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    with pytest.raises(ModelError):
        Classifier(None)
    assert not asked
    assert Classifier(None, download=True).logits(pictures(1, 64, 64)).shape == (1, 1000)
    assert asked == [{"progress": False, "check_hash": True}]


def test_made_up_numbers_are_the_same_everywhere():
    assert noise((3,), 0).tolist() == pytest.approx([0.84338, -0.88556, 0.11645], abs=1e-5)
