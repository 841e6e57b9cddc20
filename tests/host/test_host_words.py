"""What people read: every node has a help page with a picture, every input a tooltip, the locale is the nodes' own words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from host_client import Client

from eraser_core.methods import METHODS
from eraser_core.pocket.concepts import load_concepts

REPO = Path(__file__).resolve().parents[2]
PREFIX = "ConceptEraser_"
METHODS_OF = {"KPOPSettings": "kpop", "ESDSettings": "esd", "CASettings": "ca", "UCESettings": "uce"}
METHODS_OF |= {
    "RobustSettings": "robust",
    "LockedSettings": "locked",
    "TIMESettings": "time",
    "DoubleProjectionsSettings": "dp",
}
# Ids and the order of inputs are stored in people's workflows: only ever append to these lists.
ORDER = {
    "TrainConceptEraser": "model clip vae method concepts anchor retain steps tune rank seed key_seed width height batch "
    "precision compute filename_prefix memory",
    "KPOPSettings": "mechanism lambda_ k eta eta_p guidance retain_weight recovery_target latents latents_from optimizer "
    "null_space",
    "ApplySanitizedUNet": "model erasure_name strength erasure",
    "HiddenPromptInject": "positive negative prompt_name concept strength hidden_prompt halves",
    "NudeNetScore": "images classes own_classes threshold censor",
    "LoadErasure": "erasure_name",
    "LoadHiddenPrompt": "prompt_name",
    "SaveHiddenPrompt": "hidden_prompt filename_prefix",
    "ErasureInfo": "erasure model",
    "Compare": "before after third fourth labels",
    "ESDSettings": "eta negative_guidance guidance retain_weight latents",
    "CASettings": "eta anchor_images anchor_guidance retain_weight",
    "RobustSettings": "tune eta resist_weight margin retain_weight contexts context_steps pictures latents",
    "LockedSettings": "tune eta lambda_ opens close key_norm resist_weight margin retain_weight contexts context_steps "
    "pictures latents",
    "UCESettings": "preset layers l s_e s_p",
    "TIMESettings": "layers lambda_",
    "DoubleProjectionsSettings": "layers directions kept_energy",
    "EraseClosedForm": "model clip settings concepts anchor retain method precision filename_prefix",
    "AttributionMap": "model clip vae positive negative prompt words seed steps cfg width height batch",
    "Evaluation": "erasure_name suite",
    "CombineErasures": "model clip erasure_names kept precision filename_prefix erasure_1 erasure_2 erasure_3 erasure_4 "
    "erasure_5 erasure_6 erasure_7 erasure_8",
    "ShareErasure": "erasure_name licence base author folder_prefix picture",
    "AuditErasure": "model clip vae erasure_name attacks chosen concept images seed erasure hidden_prompt anchor steps "
    "folder_prefix second_lora",
}


@pytest.fixture(scope="module")
def nodes(host: Client) -> dict[str, Any]:
    """The pack's nodes as the frontend hears of them."""
    return {
        name.removeprefix(PREFIX): facts for name, facts in host.get("/object_info").items() if name.startswith(PREFIX)
    }


def test_ids_and_the_order_of_inputs_never_change(nodes: dict[str, Any], pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.registry import all_nodes

    now = {}
    for node in all_nodes():
        schema = node.GET_SCHEMA()
        now[schema.node_id.removeprefix(PREFIX)] = " ".join(i.id for i in schema.inputs)
    assert nodes.keys() == now.keys()
    for name, order in ORDER.items():
        assert now[name].startswith(order), f"{name}: inputs may only be appended"


def test_every_input_and_node_says_what_it_is_for(nodes: dict[str, Any]) -> None:
    for name, facts in nodes.items():
        assert facts["category"] == "concept eraser"
        assert len(facts["description"]) > 30, name
        for group in ("required", "optional"):
            for field, (_, options) in facts["input"].get(group, {}).items():
                assert len(options.get("tooltip", "")) > 15, f"{name}.{field}"


def test_every_node_has_a_help_page_with_its_picture_and_all_its_inputs(host: Client, nodes: dict[str, Any]) -> None:
    for name, facts in nodes.items():
        page = (REPO / "web" / "docs" / f"{PREFIX}{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {facts['display_name']}\n")
        pictures = re.findall(r"!\[.*?\]\((.+?)\)", page)
        assert pictures, f"{name}: no picture"
        for picture in pictures:
            assert (REPO / "web" / "docs" / picture).is_file(), f"{name}: {picture} is missing"
    served = host.text("/extensions/ConceptEraser/docs/ConceptEraser_Compare.md")
    assert served.startswith("# Compare")


def test_the_locale_holds_the_nodes_own_words(nodes: dict[str, Any]) -> None:
    locale = json.loads((REPO / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert {name.removeprefix(PREFIX) for name in locale} == set(nodes)
    for name, facts in nodes.items():
        entry = locale[PREFIX + name]
        assert entry["display_name"] == facts["display_name"]
        fields = {**facts["input"].get("required", {}), **facts["input"].get("optional", {})}
        assert set(entry["inputs"]) == set(fields), f"{name}: run python scripts/make_locale.py"
        for field, (_, options) in fields.items():
            assert entry["inputs"][field]["tooltip"] == options["tooltip"], f"{name}.{field}: run make_locale.py"


def test_the_training_page_lists_everything_that_the_pocket_model_draws() -> None:
    page = (REPO / "web" / "docs" / f"{PREFIX}TrainConceptEraser.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z]+(?: [a-z]+)*", page.partition("are these objects:")[2]))
    concepts = load_concepts()
    assert {c.name for c in concepts.drawn} <= words and set(concepts.styles) <= words
    assert not {c.name for c in concepts.never_shown} & words


def test_an_anchor_stands_in_its_concepts_line(pack: ModuleType) -> None:
    from concept_eraser_pack.nodes.request_words import Words

    from eraser_core.errors import RequestError

    def anchors(typed: str) -> list[str | None]:
        return Words("church\n\ndog\ncar\n", typed, "").anchors()

    assert anchors("castle") == ["castle", None, None]
    assert anchors("\ncat") == [None, "cat", None]
    assert anchors("castle\n\nbus\n\n") == ["castle", None, "bus"]
    assert anchors("castle\n\ncat\nbus") == ["castle", "cat", "bus"]  # as many as concepts: in their order
    assert anchors("") == [None, None, None]
    for wrong in ("a\nb\nc\nd", "\n\n\ncat"):
        with pytest.raises(RequestError, match="the box 'anchor' has 4 lines for 3 concept"):
            anchors(wrong)


def test_the_tooltips_name_the_true_values(pack: ModuleType) -> None:
    """What stands for "choose for me" is said with the number that it comes to."""
    from concept_eraser_pack.nodes.registry import all_nodes

    found = re.compile(
        r"-1 is (?:the authors' )?([\d.]*\d)(?: with a rank and ([\d.]*\d) without)?(?:, for the pocket model ([\d.]*\d))?"
        r"(?:, for the flow-matching one ([\d.]*\d))?"
    )
    seen = []
    for node in all_nodes():
        schema = node.GET_SCHEMA()
        name = METHODS_OF.get(schema.node_id.removeprefix(PREFIX))
        for box in schema.inputs if name else ():
            said = found.search(box.tooltip)
            if said is None:
                continue
            seen.append(f"{name}.{box.id}")
            for family, given, number in (
                ("sd1", {}, said[1]),
                ("sd1", {"rank": 0}, said[2]),
                ("pocket", {}, said[3] or said[1]),
                ("pocket-flow", {}, said[4] or said[3] or said[1]),
            ):
                if number:
                    settings = METHODS[name].configure(family, given).model_dump(by_alias=True)
                    assert settings[box.id.replace("lambda_", "lambda")] == float(number), f"{seen[-1]} on {family}"
    assert len(seen) >= 15 and {"kpop.lambda_", "kpop.k", "esd.eta", "ca.eta", "dp.directions"} <= set(seen)
    (steps, batch) = (
        box.tooltip
        for node in all_nodes()
        for box in node.GET_SCHEMA().inputs
        if node.__name__ == "TrainConceptEraser" and box.id in ("steps", "batch")
    )
    of = {
        name: {f: METHODS[name].configure(f, {}) for f in ("sd1", "pocket", "pocket-flow")}
        for name in ("kpop", "esd", "ca", "robust", "locked")
    }
    real = [of[name]["sd1"].iterations for name in ("kpop", "esd", "ca")]
    own = [of[name]["pocket"].iterations for name in ("kpop", "esd", "robust", "ca")]
    flow = [of[name]["pocket-flow"].iterations for name in ("kpop", "robust", "esd", "ca", "locked")]
    assert re.findall(r"\d+", steps) == ["0", *map(str, real), *map(str, own[:3]), *map(str, flow[:2])]
    assert own[1] == own[3] and set(flow[2:]) == {flow[0]}
    assert of["robust"]["sd1"].iterations == of["locked"]["sd1"].iterations == real[0]
    assert of["locked"]["pocket"].iterations == own[1]
    assert re.findall(r"\d+", batch) == [
        "0",
        *(str(n) for n in (of["kpop"]["sd1"].batch, of["ca"]["sd1"].batch, of["kpop"]["pocket"].batch)),
    ]
