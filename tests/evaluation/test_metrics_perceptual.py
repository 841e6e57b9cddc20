"""LPIPS against torchmetrics' and by hand, its stand-in on the pocket's judge, and controls."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from made_up import pictures, weights_like
from safetensors.torch import load_file, save_file

from eraser_core.errors import ModelError
from eraser_core.evaluation.metrics.perceptual import AlexNet, JudgeDistance, Lpips, unit_distance
from eraser_core.pocket.judge import Judge

# torchmetrics 1.9's network (and the lpips package's, to the last digit) on pictures(2, 64, 64, seed 1 and 2), with
# an AlexNet of `weights_like` and their own learnt heads.
LIBRARY = [0.10069694, 0.10108214]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.safetensors"
    classifier = {"classifier.6.weight": torch.zeros(2, 2)}  # the published file holds more than is needed
    save_file(weights_like(AlexNet().state_dict()) | classifier, path)
    return path


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Heads of one: the formula without what was learnt."""
    path = tmp_path_factory.mktemp("heads") / "heads.safetensors"
    sizes = (64, 192, 384, 256, 256)
    save_file({f"lin{i}.model.1.weight": torch.ones(1, c, 1, 1) for i, c in enumerate(sizes)}, path)
    return path


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """The learnt heads that torchmetrics brings, converted as a user converts them."""
    package = pytest.importorskip("torchmetrics", reason="brings LPIPS's heads: pip install -e '.[test]'")
    source = Path(package.__file__).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    path = tmp_path_factory.mktemp("learnt") / "alex.safetensors"
    save_file({k: v.contiguous() for k, v in torch.load(source, map_location="cpu", weights_only=True).items()}, path)
    return path


def test_the_distance_is_the_librarys(backbone, learnt):
    found = Lpips(backbone, learnt).distances(pictures(2, 64, 64, 1), pictures(2, 64, 64, 2))
    assert found.tolist() == pytest.approx(LIBRARY, rel=1e-3)


def test_the_distance_is_the_librarys_own_call(backbone, learnt):
    pytest.importorskip("torchvision", reason="only beside the fixed numbers above")
    lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    theirs = lpips._LPIPS(pretrained=True, net="alex", pnet_rand=True).eval()
    tensors = load_file(backbone)
    own = theirs.net.state_dict()
    theirs.net.load_state_dict({name: tensors["features." + name.partition(".")[2]] for name in own})
    first, second = pictures(3, 96, 72, 3), pictures(3, 96, 72, 4)
    expected = theirs(first, second, normalize=True).flatten()
    assert torch.allclose(Lpips(backbone, learnt).distances(first, second, batch=2), expected, atol=1e-6)


def test_the_formula_by_hand():
    one = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)  # unit: (.6, .8)
    two = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    # (.6 - 1)^2 w1 + .8^2 w2 = .16 x 2 + .64 x .5
    weights = torch.tensor([2.0, 0.5]).view(1, 2, 1, 1)
    assert unit_distance([one], [two], [weights]).item() == pytest.approx(0.64, abs=1e-4)
    # Two pixels, one of them equal: the mean over pixels; two layers add up; a layer of weight 0 adds nothing.
    wide = torch.cat([one, two], 3), torch.cat([one, one], 3)
    assert unit_distance([wide[0]] * 2, [wide[1]] * 2, [1.0, 0.0]).item() == pytest.approx(0.8 / 2, abs=1e-4)


def test_lpips_moves_the_right_way(backbone, heads):
    metric = Lpips(backbone, heads)
    picture = pictures(1, 64, 64, 5).expand(4, -1, -1, -1)
    blend = torch.tensor([0.0, 0.1, 0.4, 1.0]).view(4, 1, 1, 1)
    found = metric.distances(picture, (1 - blend) * picture + blend * pictures(1, 64, 64, 6))
    assert found[0] == 0 and (found.diff() > 0).all()
    assert torch.allclose(metric.distances(picture, picture.flip(3)), metric.distances(picture.flip(3), picture))


def judge() -> Judge:
    made = Judge(("a", "b", "other"), ("ink", "clay"), (4, 8, 8, 8))
    made.load_state_dict(weights_like(made.state_dict()))
    return made.eval().requires_grad_(False)


def test_the_stand_in_by_an_independent_way():
    network, metric = judge(), JudgeDistance(judge())
    assert metric.name == "judge-LPIPS"
    first, second = pictures(2, 64, 64, 1), pictures(2, 64, 64, 2)
    seen: list[torch.Tensor] = []
    for layer in list(network.trunk)[2:]:
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
    network.features(torch.cat([first, second]))
    expected = torch.zeros(2)
    for stage in seen:
        cosine = torch.nn.functional.cosine_similarity(stage[:2], stage[2:], dim=1)
        alive = stage.abs().sum(1) > 0  # a pixel that activates nothing has no direction
        expected += (alive[:2].float() + alive[2:].float() - 2 * cosine).mean((1, 2))  # |u - v|^2 of unit vectors
    assert len(seen) == 4
    assert torch.allclose(metric.distances(first, second), expected, atol=1e-3)
    assert metric.distances(first, first).abs().max() == 0


def test_what_is_missing_is_named(backbone, heads, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"there is no file .*alexnet-owt.*Nothing is downloaded"):
        Lpips(tmp_path / "nothing.safetensors", heads)
    with pytest.raises(ModelError, match="holds no LPIPS weights"):
        Lpips(backbone, backbone)
    monkeypatch.setattr(
        "eraser_core.evaluation.metrics.perceptual.HEADS_IN_PACKAGES", (("no_such_package", "alex.pth"),)
    )
    with pytest.raises(ModelError, match="pip install torchmetrics"):
        Lpips(backbone, tmp_path / "nothing.safetensors")
    with pytest.raises(ModelError, match="one shape"):
        JudgeDistance(judge()).distances(torch.zeros(1, 3, 64, 64), torch.zeros(2, 3, 64, 64))
