"""The real frontend in a headless browser: opens a template, presses Run, sees the pictures."""

from __future__ import annotations

import os
from typing import Any

import graphs
import pytest
from host_client import Client

from scripts import frontend


@pytest.fixture(scope="module")
def browser() -> str:
    found = frontend.browser()
    try:
        import playwright  # noqa: F401
    except ImportError:
        found = None
    if found is None:
        reason = "no Chromium with playwright here: apt-get install chromium, pip install playwright"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def shown_images(page: Any) -> int:
    """How many pictures the nodes on the canvas show."""
    return int(page.evaluate("app.graph.nodes.reduce((n, node) => n + (node.imgs?.length ?? 0), 0)"))


def test_a_template_opens_runs_and_shows_its_pictures(host: Client, browser: str) -> None:
    query = "/?template=recover_with_the_hidden_prompt&source=ConceptEraser"
    with frontend.page(host.url, query) as page:
        page.wait_for_function("app.graph.nodes.some((n) => n.type === 'ConceptEraser_HiddenPromptInject')")
        assert shown_images(page) == 0
        for kind in ("KSampler", "EmptyLatentImage"):
            page.evaluate(
                """([kind]) => { for (const node of app.graph.nodes) if (node.type === kind)
                     for (const w of node.widgets) if (w.name === "steps" || w.name === "batch_size") w.value = 2; }""",
                [kind],
            )
        frontend.press_run(page, 240)
        page.wait_for_function("app.graph.nodes.some((n) => n.imgs?.length)")
        assert shown_images(page) >= 1
        assert "ConceptEraser.ShowPocketModel" in page.evaluate("Object.keys(app.ui.settings.settingsLookup ?? {})")


def test_a_graph_that_fails_says_why_in_the_frontend(host: Client, browser: str) -> None:
    prompt = graphs.checkpoint() | {
        "1": {
            "class_type": "ConceptEraser_LoadErasure",
            "inputs": {"erasure_name": "gone.safetensors"},
        },
        "2": {"class_type": "ConceptEraser_ErasureInfo", "inputs": {"erasure": ["1", 0]}},
    }
    del prompt["ckpt"]
    with frontend.page(host.url) as page:
        page.evaluate("async (prompt) => { await app.loadApiJson(prompt, 'fails'); }", prompt)
        with pytest.raises(RuntimeError, match=r"there is no file 'gone.safetensors'"):
            frontend.press_run(page, 60)
        page.get_by_text("there is no file 'gone.safetensors'").first.wait_for(timeout=10_000)


def test_a_missing_wheel_is_said_when_the_graph_is_opened(host: Client, browser: str) -> None:
    add = "async (say) => { const type = LiteGraph.registered_node_types.ConceptEraser_NudeNetScore;"
    add += " if (say) type.nodeData.description += ' NudeNet Score needs the package nudenet, which is not installed.';"
    add += " const node = LiteGraph.createNode('ConceptEraser_NudeNetScore'); app.graph.clear(); app.graph.add(node);"
    add += " await app.loadGraphData(app.graph.serialize()); }"
    with frontend.page(host.url) as page:
        toast = page.get_by_text("needs the package nudenet, which is not installed")
        page.evaluate(add, False)
        page.wait_for_timeout(500)
        assert toast.count() == 0
        page.evaluate(add, True)
        toast.first.wait_for(timeout=10_000)
