"""FID and KID against torchmetrics' and against numbers worked by hand; controls; the judge's are never called FID."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from made_up import pictures, weights_like
from safetensors.torch import save_file

from eraser_core.errors import ModelError, RequestError
from eraser_core.evaluation.metrics import fid
from eraser_core.evaluation.metrics.fid import InceptionFeatures, JudgeFeatures, frechet_distance, kernel_distance
from eraser_core.evaluation.report.grid import to_pil
from eraser_core.pocket.judge import Judge


def features(n: int, d: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_fid_by_hand():
    # One feature: means 0 and 3, variances 1 and 4: 9 + 1 + 4 - 2 sqrt(4) = 10.
    one = torch.tensor([[-1.0], [0.0], [1.0]])
    two = torch.tensor([[1.0], [3.0], [5.0]])
    assert frechet_distance(one, two) == pytest.approx(10)
    # Two independent features add up: the second has variance 4 twice and no shift.
    square = torch.tensor([[-1.0, 2.0], [-1.0, -2.0], [1.0, 2.0], [1.0, -2.0]])
    assert frechet_distance(square, square + torch.tensor([3.0, 0.0])) == pytest.approx(9)
    assert frechet_distance(square, square) == pytest.approx(0, abs=1e-9)


def test_kid_by_hand():
    # d = 1, x = {0, 1}, y = {1, 2}: k(a, b) = (ab + 1)^3. Off the diagonal k(0, 1) = 1 and k(1, 2) = 27, each the mean
    # over m (m - 1) ordered pairs; crosswise 1, 1, 8, 27, whose mean is 9.25: 1 + 27 - 2 x 9.25.
    found = kernel_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]), subsets=3)
    assert (found.mean, found.std) == (pytest.approx(9.5), pytest.approx(0))


class Identity(torch.nn.Module):
    """Takes features for pictures."""

    num_features = 6

    def forward(self, x):
        return x.flatten(1)


@pytest.mark.parametrize("n", [40, 4])
def test_the_figures_are_torchmetrics(n):
    metrics = pytest.importorskip("torchmetrics.image.fid", reason="pip install -e '.[test]'")
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = features(n), features(n, seed=1) * 1.5 + 0.5
    theirs = metrics.FrechetInceptionDistance(feature=Identity(), normalize=True).set_dtype(torch.float64)
    theirs.update(x.double().view(n, 6, 1, 1), real=True)
    theirs.update(y.double().view(n, 6, 1, 1), real=False)
    # Below d pictures the covariances are singular and their complex roots lose digits that ours keep.
    assert frechet_distance(x, y) == pytest.approx(theirs.compute().item(), abs=1e-4 if n > 6 else 2e-3)
    whole = kid.KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=n)
    whole.update(x.double(), real=True)
    whole.update(y.double(), real=False)
    assert kernel_distance(x, y, subsets=1).mean == pytest.approx(whole.compute()[0].item(), rel=1e-5)


def test_kid_in_subsets_is_reproducible_and_near_the_whole():
    x, y = features(200), features(300, seed=1) + 0.5
    whole, parts = kernel_distance(x, y[:200], subsets=1), kernel_distance(x, y, subsets=60, subset_size=50)
    assert parts == kernel_distance(x, y, subsets=60, subset_size=50)
    assert parts != kernel_distance(x, y, subsets=60, subset_size=50, seed=1)
    assert abs(parts.mean - whole.mean) < 4 * parts.std / math.sqrt(60) + 0.2 * whole.mean and parts.std > 0


def test_the_figures_move_the_right_way():
    x, same = features(400), features(400, seed=1)
    near, far = same + 0.3, same * 3 + 2
    fids = [frechet_distance(x, s) for s in (same, near, far)]
    kids = [kernel_distance(x, s, subsets=1).mean for s in (same, near, far)]
    assert fids == sorted(fids) and fids[0] < 0.2 and fids[2] > 10
    assert kids == sorted(kids) and abs(kids[0]) < 0.1  # unbiased: about zero for the same distribution


def judge() -> Judge:
    made = Judge(("a", "other"), ("ink",), (4, 8, 8, 8))
    made.load_state_dict(weights_like(made.state_dict()))
    return made.eval().requires_grad_(False)


def test_the_judges_figures_carry_its_name_and_destroyed_pictures_score_badly():
    extractor = JudgeFeatures(judge())
    drawn = pictures(24, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    reference = fid.extract(extractor, drawn.split(5))
    assert torch.allclose(reference, judge().features(drawn), atol=1e-5)
    untouched = fid.set_distances(extractor, reference, reference)
    destroyed = fid.set_distances(extractor, reference, fid.extract(extractor, [pictures(24, 64, 64, 9)]))
    assert list(untouched) == ["judge-FID", "judge-KID", "judge-KID std"]
    assert untouched["judge-FID"] == pytest.approx(0, abs=1e-9)
    assert destroyed["judge-FID"] > 1e-3 and destroyed["judge-KID"] > untouched["judge-KID"]


def test_a_reference_folder_is_read_in_order(tmp_path):
    images = pictures(3, 5, 7)
    for i, image in enumerate(images):
        to_pil(image).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    assert torch.equal(torch.cat(list(fid.pictures_in(tmp_path))), images)
    for empty in (tmp_path / "none", tmp_path):
        for path in tmp_path.glob("*.png"):
            path.unlink()
        with pytest.raises(RequestError, match="holds no pictures"):
            list(fid.pictures_in(empty))


def test_too_few_pictures_are_refused():
    for one, two in ((features(1), features(5)), (features(5), features(1))):
        with pytest.raises(RequestError, match="at least two"):
            frechet_distance(one, two)
        with pytest.raises(RequestError, match="at least two"):
            kernel_distance(one, two)
    with pytest.raises(RequestError, match="no pictures"):
        fid.extract(JudgeFeatures(judge()), [])


class FakeInception(torch.nn.Module):
    """In place of torchmetrics': remembers what it was given."""

    def __init__(self, name, layers, path):
        super().__init__()
        self.said = (name, layers, path)

    def forward(self, x):
        return x.float().flatten(1)


def test_inception_gets_the_file_and_whole_numbers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    stand_in = types.SimpleNamespace(NoTrainInceptionV3=FakeInception)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", stand_in)
    path = tmp_path / "inception.safetensors"
    save_file({"fc.weight": torch.ones(1)}, path)
    extractor = InceptionFeatures(path)
    *asked, given = extractor._network.said
    assert asked == ["inception-v3-compat", ["2048"]] and extractor.prefix == ""
    assert torch.load(given, weights_only=True) == {"fc.weight": torch.ones(1)}  # as torch-fidelity reads it
    images = pictures(2, 3, 3)
    assert torch.equal(extractor.features(images), (images * 255).round().flatten(1))  # no 6.9999 cut to 6


def test_missing_or_doubtful_inception_weights_are_named(tmp_path, monkeypatch):
    path = tmp_path / "inception.safetensors"
    with pytest.raises(ModelError, match=r"there is no file .*weights-inception-2015-12-05.*Nothing is downloaded"):
        InceptionFeatures(path)
    torch.save({"call": print}, path.with_suffix(".pth"))
    with pytest.raises(ModelError, match="only safetensors are"):
        InceptionFeatures(path)
    path.write_bytes(path.with_suffix(".pth").read_bytes())
    with pytest.raises(ModelError, match="cannot read"):
        InceptionFeatures(path)
    save_file({"fc.weight": torch.zeros(1)}, path)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ModelError, match="pip install torch-fidelity"):
        InceptionFeatures(path)
