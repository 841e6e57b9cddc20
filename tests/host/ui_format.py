"""A workflow file (UI format) as the prompt that the frontend would queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphs import Prompt

CONTROLS = {"fixed", "increment", "decrement", "randomize"}
NOTES = {"Note", "MarkdownNote"}
FROM_OUTSIDE = -10  # the node in a subgraph that stands for its inputs
Link = list[Any]


def to_prompt(workflow: dict[str, Any]) -> Prompt:
    """Links by id, widget values by position; a seed's control value behind it is left out.

    A subgraph's nodes have ids as the frontend gives them: those of the box and the node, with a colon between.
    """
    known = {s["id"]: s for s in workflow.get("definitions", {}).get("subgraphs", [])}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    boxes = {node["id"]: node for node in workflow["nodes"] if node["type"] in known}

    def source(link: int) -> Link:
        node, slot = links[link]
        if node not in boxes:
            return [str(node), slot]
        inner = known[boxes[node]["type"]]
        own = {one["id"]: one for one in inner["links"]}
        last = own[inner["outputs"][slot]["linkIds"][0]]
        return [f"{node}:{last['origin_id']}", last["origin_slot"]]

    prompt: Prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        if node["id"] not in boxes:
            prompt[str(node["id"])] = _node(node, source)
            continue
        inner = known[node["type"]]
        own = {one["id"]: one for one in inner["links"]}

        def inside(link: int, box: dict[str, Any] = node, own: dict[int, Any] = own) -> Link:
            one = own[link]
            if one["origin_id"] == FROM_OUTSIDE:
                return source(box["inputs"][one["origin_slot"]]["link"])
            return [f"{box['id']}:{one['origin_id']}", one["origin_slot"]]

        prompt |= {f"{node['id']}:{one['id']}": _node(one, inside) for one in inner["nodes"]}
    return prompt


def _node(node: dict[str, Any], source: Callable[[int], Link]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    values = list(node.get("widgets_values") or [])
    for slot in node.get("inputs", []):
        if "widget" in slot:
            inputs[slot["name"]] = values.pop(0)
            if values and isinstance(values[0], str) and values[0] in CONTROLS:
                values.pop(0)
        if slot.get("link") is not None:
            inputs[slot["name"]] = source(slot["link"])
    return {"class_type": node["type"], "inputs": inputs}
