"""The suites' tables from scores made up by hand: columns, intervals, splits, pairs; nothing is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from made_up_erasures import subject
from made_up_tables import by_title, rows_of, write

from eraser_core.errors import OutputError, RequestError
from eraser_core.evaluation.metrics.nudity import EXPOSED
from eraser_core.evaluation.report.page import report, sample_grid
from eraser_core.evaluation.report.sidecar import sidecar_of, write_sidecar
from eraser_core.evaluation.report.tables import Figure, Row, Table, score, share_of
from eraser_core.evaluation.suites.ablations import lambda_points
from eraser_core.evaluation.suites.artists import ARTISTS, ArtistSuite
from eraser_core.evaluation.suites.i2p import I2PSuite, read_prompts
from eraser_core.evaluation.suites.imagenette import SPLITS, ImagenetteSuite
from eraser_core.evaluation.suites.manifest import claim, make_plan, slug
from eraser_core.evaluation.suites.results import Results
from eraser_core.files import write_tensors

WEIGHTS = Path("nowhere")


def test_imagenette_in_the_slides_columns_over_the_four_splits(tmp_path):
    subjects = [subject(f"kpop {i}", split, method="kpop", settings=KPOP) for i, split in enumerate(SPLITS)]
    suite = ImagenetteSuite(subjects, 4, WEIGHTS, "cpu")
    plan = make_plan(suite, subjects, batch=7)
    # Split i draws i + 1 of 4 erased pictures wrongly at k = 1, half as many at k = 5; kept ones are always right.

    def rank(erased_by, _hidden, item):
        if erased_by is None or item.concept not in suite.targets[erased_by]:
            return 0
        turn = item.index % 4
        return 0 if turn > subjects.index(erased_by) else 9

    write(plan, tmp_path, "ResNet-50", rank=rank)
    tables = by_title(suite.tables(Results(plan, tmp_path, {})))
    found = rows_of(tables["Erasing object-related concepts"])
    assert [found[f"kpop {i} (no retain set)"].cells["ESR-1"].value for i in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert found["kpop 0 (no retain set)"].cells["ESR-1"].n == 20
    mean = found["kpop, over 4 splits"].cells["ESR-1"]
    assert mean.value == 0.625 and mean.std == pytest.approx(torch.tensor([0.25, 0.5, 0.75, 1.0]).std().item())
    assert found["untouched, over 4 splits"].cells["PSR-1"].text() == "100.0 +- 0.0"
    assert found["kpop 3 (no retain set)"].cells["PSR-5"].value == 1
    quoted = [row for row in tables["Erasing object-related concepts"].rows if row.quoted]
    assert quoted[0].name == "SD" and quoted[0].cells["PSR-5"] == "97.6 +- 1.4"
    # Each is compared with the untouched model on its own seeds, and not with another split's erasure.
    differences = rows_of(tables["Differences, paired by seed"])
    assert list(differences) == [f"kpop {i} - untouched" for i in range(4)]
    assert differences["kpop 3 - untouched"].cells["ESR-1"].value == 1
    assert differences["kpop 3 - untouched"].cells["PSR-1"].value == 0


KPOP = {"mechanism": "concatenative", "k": 10, "lambda": 0.1}


def test_two_erasures_of_the_same_classes_are_compared_and_lambda_is_drawn(tmp_path):
    subjects = [
        subject("first", SPLITS[0], method="kpop", settings=KPOP, retained=["dog"]),
        subject("second", SPLITS[0], method="kpop", settings=KPOP | {"lambda": 1.0}),
    ]
    suite = ImagenetteSuite(subjects, 2, WEIGHTS, "cpu")
    plan = make_plan(suite, subjects, batch=16)
    write(plan, tmp_path, "ResNet-50", rank=lambda s, _h, item: 9 if s is subjects[0] else 0)
    tables = by_title(suite.tables(Results(plan, tmp_path, {})))
    difference = rows_of(tables["Differences, paired by seed"])["first - second"]
    assert difference.cells["ESR-1"].value == 1 and difference.about == ("first", "second")
    ablation = tables["Prompting mechanisms, prompt size and lambda"]
    assert rows_of(ablation)["second"].cells["lambda"] == "1.0" and lambda_points(ablation) == {
        "ESR-1": [(0.1, 1.0), (1.0, 0.0)],
        "PSR-1": [(0.1, 0.0), (1.0, 1.0)],
    }
    assert "first (retain set used)" in rows_of(tables["Erasing object-related concepts"])
    # Two runs of one method on the same split are no splits to average over.
    assert not any("over 2 splits" in name for name in rows_of(tables["Erasing object-related concepts"]))


def test_imagenette_refuses_what_it_has_no_class_for():
    with pytest.raises(RequestError, match="no class of Imagenette"):
        ImagenetteSuite([subject("dog", ["a dog"])], 1, WEIGHTS, "cpu")
    assert ImagenetteSuite([subject("x", ["a Church"])], 1, WEIGHTS, "cpu").concepts_shown[0] == "church"


CSV = """,prompt,categories,evaluation_seed,evaluation_guidance,case_number,without
0,"a nude, in oil",sexual,11,7,3230,"a figure, in oil"
1,a castle,violence,12,7.5,3252,
2,a dog,hate,13,7,4,
"""


def i2p(tmp_path, subjects=(), images=None, text=CSV) -> I2PSuite:
    path = tmp_path / "i2p.csv"
    path.write_text(text, encoding="utf-8")
    return I2PSuite(subjects, path, images, WEIGHTS, None, "cpu")


def test_i2p_draws_published_seeds_and_guidance_in_batches_of_one_guidance(tmp_path):
    subjects = [subject("esd", ["nudity"])]
    plan = make_plan(i2p(tmp_path, subjects), subjects, batch=16)
    assert [item.noise_seed(5) for item in plan.items] == [11, 12, 13]
    batches = [[item.index for item in unit.items] for unit in plan.units if unit.variant.subject is None]
    assert batches == [[3230, 4], [3252]]
    old = CSV.replace("evaluation_seed", "sd_seed").replace("evaluation_guidance", "sd_guidance_scale")
    assert [p.seed for p in (i2p(tmp_path, text=old)._rows)] == [11, 12, 13]
    assert [item.index for item in i2p(tmp_path, images=2).items()] == [3230, 3252]


def test_i2p_counts_what_nudenet_counts(tmp_path):
    subjects = [subject("esd", ["nudity"]), subject("uce", ["nudity"])]
    suite = i2p(tmp_path, subjects)
    plan = make_plan(suite, subjects, batch=16)

    def counts(erased_by, _hidden, item):
        found = torch.zeros(4, len(EXPOSED), dtype=torch.int32)
        seen = {None: (3230, 3252), subjects[0]: (3230,), subjects[1]: ()}[erased_by]
        found[:2, 0] = 2 * (item.index in seen)  # two parts above .3 and .5, none above .7
        return found.tolist()

    write(plan, tmp_path, "NudeNet", counts=counts)
    found = by_title(suite.tables(Results(plan, tmp_path, {})))
    table = rows_of(found["Evaluation on the nudity erasure setting"])
    assert [table[n].cells["NER-0.5"].value for n in ("untouched", "esd", "uce")] == pytest.approx([2 / 3, 1 / 3, 0])
    assert table["untouched"].cells["NER-0.7"].value == 0 and table["untouched"].cells["NER-0.3"].n == 3
    differences = rows_of(found["Differences, paired by seed"])
    assert set(differences) == {"esd - untouched", "uce - untouched", "esd - uce"}
    assert differences["esd - uce"].cells["NER-0.3"].value == pytest.approx(1 / 3)
    assert "CLIP scores" not in found  # nothing was scored


def test_i2p_has_three_clip_scores_and_the_third_only_where_the_file_has_it(tmp_path):
    suite = i2p(tmp_path)
    plan = make_plan(suite, [], batch=16)
    for unit in plan.units:  # as ClipScorer gives them: a batch without the text has no column, others NaN
        path = unit.scores(tmp_path, "CLIP score")
        columns = {
            "prompt": torch.tensor([30.0 + (i.index == 3252) + 2 * (i.index == 4) for i in unit.items]),
            "concept": torch.tensor([20.0] * len(unit.items)),
            "index": torch.tensor([i.index for i in unit.items]),
        }
        if any(i.index == 3230 for i in unit.items):
            columns["without"] = torch.tensor([25.0 if i.index == 3230 else float("nan") for i in unit.items])
        write_tensors(path, columns, {})
    (row,) = rows_of(by_title(suite.tables(Results(plan, tmp_path, {})))["CLIP scores"]).values()
    assert row.cells["Image vs prompt"].value == pytest.approx(31) and row.cells["Image vs prompt"].n == 3
    assert row.cells["Image vs prompt without it"].n == 1 and row.cells["Image vs prompt without it"].value == 25


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "no file": ("", "no lines"),
        "no seeds": ("prompt,sd_guidance_scale\na,7\n", "needs the columns"),
        "a seed that is no number": ("prompt,sd_seed,sd_guidance_scale\na,x,7\n", "line 2"),
        "a case twice": ("prompt,sd_seed,sd_guidance_scale,case_number\na,1,7,3\nb,2,7,3\n", "twice"),
    }.values(),
)
def test_a_wrong_prompt_file_is_named(text, said, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=said):
        read_prompts(path)
    with pytest.raises(RequestError, match="there is no file"):
        read_prompts(tmp_path / "none.csv")


def test_artists_to_erase_and_to_retain(tmp_path):
    subjects = [subject("esd", ["Kilian Eng"]), subject("uce", ["art by Kilian Eng"])]
    suite = ArtistSuite(subjects, ARTISTS, 1, WEIGHTS, "cpu")
    plan = make_plan(suite, subjects, batch=64)
    assert sum(item.part == "artists" for item in plan.items) == 5 * 40
    assert {u.variant.name for u in plan.units for i in u.items if i.part != "artists"} == {"untouched"}

    def clip(erased_by, _hidden, item):
        return 20.0 if erased_by is subjects[0] and item.concept == "Kilian Eng" else 30.0

    write(plan, tmp_path, "CLIP score", prompt=clip, artist=clip, content=lambda *_: 29.0)
    write(plan, tmp_path, "LPIPS", distance=lambda s, h, item: (30 - clip(s, h, item)) / 10)
    found = by_title(suite.tables(Results(plan, tmp_path, {})))
    table = rows_of(found["Erasing artistic style concepts"])
    esd, uce = table["esd (Kilian Eng)"].cells, table["uce (Kilian Eng)"].cells
    assert (esd["erase CLIP"].value, esd["retain CLIP"].value, esd["erase LPIPS"].value) == (20, 30, 1)
    assert (uce["erase CLIP"].value, uce["erase LPIPS"].value, esd["retain LPIPS"].n) == (30, 0, 160)
    differences = rows_of(found["Differences, paired by seed"])
    assert (
        differences["esd - uce"].cells["erase CLIP"].value == -10
        and differences["esd - uce"].cells["erase CLIP"].high < 0
    )
    assert not any("together" in name for name in table)  # two methods; and one method twice on one artist is no mean
    with pytest.raises(RequestError, match="none of the artists"):
        ArtistSuite([subject("x", ["a dog"])], ARTISTS, 1, WEIGHTS, "cpu")


def test_one_methods_erasures_of_several_artists_are_a_row_together(tmp_path):
    subjects = [subject("one", ["Kilian Eng"]), subject("two", ["Tyler Edlin"])]
    suite = ArtistSuite(subjects, ARTISTS, 1, WEIGHTS, "cpu")
    plan = make_plan(suite, subjects, batch=64)
    write(plan, tmp_path, "LPIPS", distance=lambda s, _h, i: 1.0 if i.concept in suite.targets.get(s, ()) else 0.5)
    (table,) = (t for t in suite.tables(Results(plan, tmp_path, {})) if t.title.startswith("Erasing"))
    cells = rows_of(table)["uce, 2 erasures together"].cells
    assert (cells["erase LPIPS"].value, cells["erase LPIPS"].n) == (1, 80)
    assert (cells["retain LPIPS"].value, cells["retain LPIPS"].n) == (0.5, 320)


def test_figures_by_hand():
    assert share_of(torch.tensor([True, False, True, True])).text() == "75.0 [30.1, 95.4]"
    assert share_of(torch.zeros(0, dtype=torch.bool)) is None
    found = score(torch.tensor([1.0, 2.0, 3.0]))
    assert found.value == 2 and found.std == 1 and found.low < 2 < found.high
    assert Figure(12.3456, 2, "distance").text() == "12.35"


def test_quoted_rows_are_marked_everywhere():
    table = Table("T", ("A",), (Row("KPOP", {"A": "1"}, quoted=True), Row("kpop", {"A": 2.0})))
    assert "| *KPOP (quoted)* | 1 |" in table.markdown() and "| kpop | 2 |" in table.markdown()
    assert "<tr class=quoted><td>KPOP (quoted)</td>" in table.html()
    assert [row["quoted"] for row in table.facts()["rows"]] == [True, False]


def test_a_sidecar_keeps_other_suites_of_the_same_erasure_alone(tmp_path):
    from dataclasses import replace

    from PIL import Image

    own = replace(subject("a", ["church"]), path=tmp_path / "mine.safetensors")
    rows = (Row("a", {"A": 1.0}, about=("a",)), Row("b", {"A": 2.0}, about=("b",)), Row("Q", {"A": "3"}, quoted=True))
    tables, grid = [Table("T", ("A",), rows), Table("Of b", ("A",), rows[1:])], Image.new("RGB", (4, 4))
    write_sidecar(own, "pocket", {"n": 1}, tables, grid)
    write_sidecar(own, "i2p", {"n": 2}, tables, grid)
    path = sidecar_of(own.path)
    said = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "mine.evaluation.json" and set(said["suites"]) == {"pocket", "i2p"}
    (table,) = said["suites"]["pocket"]["tables"]
    assert [row["name"] for row in table["rows"]] == ["a", "Q"]
    path.write_text(json.dumps(said | {"erasure_hash": "another's"}), encoding="utf-8")
    write_sidecar(own, "artists", {"n": 3}, tables, grid)
    assert set(json.loads(path.read_text(encoding="utf-8"))["suites"]) == {"artists"}


def test_explicit_pictures_are_pixelated_on_the_page(tmp_path):
    from eraser_core.evaluation.report.grid import png, to_pil
    from eraser_core.files import write_bytes

    plan = make_plan(i2p(tmp_path), [], batch=16)
    drawn = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    for unit in plan.units:
        for item in unit.items:
            write_bytes(unit.picture(tmp_path, item), png(to_pil(drawn)))
    shown = sample_grid(plan, tmp_path, [], lambda _v, item: item.index != 3230)
    hidden = sample_grid(plan, tmp_path, [], lambda _v, _i: True)
    assert shown.tobytes() != hidden.tobytes()
    assert "<h1>T</h1>" in report("T", "", [], {"FID": "no file"}, {"g": shown}, {}, tmp_path)


def test_names_become_folders():
    assert slug("kpop k=10 + hidden prompt") == "kpop_k=10_+_hidden_prompt" and slug("../a:b") == "a_b"


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    path = tmp_path / "out"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(OutputError, match="is a file"):
        claim(path, {}, force=True)
