"""The templates on the canvas, in the classic look and in Nodes 2.0: nothing overlaps, wires lead right, groups have titles."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
from host_client import Client
from test_host_frontend import browser  # noqa: F401 (a fixture)
from test_host_workflows import NAMES, read

from scripts import frontend

Rectangle = tuple[str, float, float, float, float]  # title, left, top, right, bottom


def overlapping(rectangles: list[Rectangle]) -> list[tuple[str, str]]:
    """The titles of pairs of nodes that lie on each other."""
    return [
        (a[0], b[0])
        for a, b in combinations(rectangles, 2)
        if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
    ]


def rectangles(page: Any, host: Client | None, workflow: str) -> list[Rectangle]:
    """Those of all nodes as the frontend computes them, in the look that the server has stored; on a host in a new page."""
    if host is None:
        page.evaluate(frontend.LOAD, workflow)
        return [tuple(rectangle) for rectangle in page.evaluate(frontend.RECTANGLES)]
    with frontend.another(page, host.url) as fresh:
        fresh.evaluate(frontend.LOAD, workflow)
        return [tuple(rectangle) for rectangle in fresh.evaluate(frontend.RECTANGLES)]


def backwards(workflow: dict[str, Any]) -> list[tuple[str, str]]:
    """The kinds of nodes whose wire does not lead to the right."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    ends = [(nodes[source], nodes[target]) for _, source, _, target, *_ in workflow["links"]]
    return [(a["type"], b["type"]) for a, b in ends if a["pos"][0] + a["size"][0] >= b["pos"][0]]


def outside(workflow: dict[str, Any]) -> list[str]:
    """The kinds of nodes that stand in no group, or in several."""

    def holds(box: list[float], node: dict[str, Any]) -> bool:
        left, top, width, height = box
        x, y = node["pos"]
        return (
            left <= x and top <= y - 30 and x + node["size"][0] <= left + width and y + node["size"][1] <= top + height
        )

    groups = [group["bounding"] for group in workflow["groups"]]
    return [node["type"] for node in workflow["nodes"] if sum(holds(box, node) for box in groups) != 1]


@pytest.mark.parametrize("name", NAMES)
def test_wires_lead_to_the_right_and_every_node_has_its_group(name: str) -> None:
    workflow = read(name)
    assert backwards(workflow) == [] and outside(workflow) == []
    assert all(len(group["title"]) > 3 for group in workflow["groups"])
    if len(workflow["links"]) > 3:
        first = workflow["nodes"][0]
        last = max(workflow["nodes"], key=lambda node: float(node["pos"][0]))
        first["pos"], last["pos"] = last["pos"], first["pos"]
        assert backwards(workflow)  # the judge sees it


def test_nothing_overlaps_in_either_look(host: Client, browser: str) -> None:  # noqa: F811
    faults: dict[str, Any] = {}
    sizes: dict[bool, dict[str, float]] = {}
    with frontend.page(host.url) as page:
        for modern in (False, True):
            page.evaluate(frontend.LOOK, modern)  # it is stored: a page that is opened with it does not convert graphs
            for name in NAMES:
                found = rectangles(page, host if modern else None, json.dumps(read(name)))
                sizes.setdefault(modern, {})[name] = sum(r[4] - r[2] for r in found)
                if overlapping(found):
                    faults[f"{name}, {'Nodes 2.0' if modern else 'classic'}"] = overlapping(found)
            moved = read(NAMES[0])
            moved["nodes"][1]["pos"] = [moved["nodes"][0]["pos"][0] + 20, moved["nodes"][0]["pos"][1] + 20]
            assert overlapping(rectangles(page, host, json.dumps(moved)))  # the judge sees it
        page.evaluate(frontend.LOOK, False)
    assert not faults, json.dumps(faults)
    assert all(sizes[True][name] > sizes[False][name] for name in NAMES)  # it was another look
