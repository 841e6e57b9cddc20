"""A workflow file (UI format) as the prompt that the frontend would queue."""

from __future__ import annotations

from typing import Any

from graphs import Prompt

CONTROLS = {"fixed", "increment", "decrement", "randomize"}
NOTES = {"Note", "MarkdownNote"}


def to_prompt(workflow: dict[str, Any]) -> Prompt:
    """Links by id, widget values by position; a seed's control value behind it is left out."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs: dict[str, Any] = {}
        values = list(node.get("widgets_values") or [])
        for slot in node.get("inputs", []):
            if "widget" in slot:
                inputs[slot["name"]] = values.pop(0)
                if values and isinstance(values[0], str) and values[0] in CONTROLS:
                    values.pop(0)
            if slot.get("link") is not None:
                inputs[slot["name"]] = links[slot["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
