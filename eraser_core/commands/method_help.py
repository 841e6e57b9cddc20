"""What one method can be told: `erase --method NAME --help`."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from ..methods import Method, method

KINDS = {int: "N", float: "NUMBER", bool: "true|false", str: "TEXT"}
WIDTH = 34


def method_help(name: str) -> str:
    """The settings of one method, with types and defaults; RequestError where there is none of this name."""
    chosen = method(name)
    lines = [
        f"usage: python -m eraser_core erase --method {name} --concept WORD [WORD ...] --out DIR [settings]",
        "",
        f"settings of {name} ({chosen.paper})",
    ]
    for own, field in chosen.settings.model_fields.items():
        key = field.alias or own
        switch = f"  --{key.replace('_', '-')} {kind_of(field.annotation)}"
        said = f"{field.description} ({defaults(chosen, key, field)})"
        lines.append(f"{switch:<{WIDTH}}{said}" if len(switch) < WIDTH else f"{switch}\n{'':<{WIDTH}}{said}")
    lines += ["", "docs/methods/ says what they do. `python -m eraser_core erase --help` lists the other switches."]
    return "\n".join(lines) + "\n"


def kind_of(annotation: Any) -> str:
    """A setting's type as a user reads it."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) in (types.UnionType, Union):
        return "|".join(dict.fromkeys(kind_of(one) for one in get_args(annotation) if one is not type(None)))
    return KINDS.get(annotation, "VALUE")


def defaults(chosen: Method, key: str, field: FieldInfo) -> str:
    """What the setting is where nothing is said, and on which models it is something else."""
    usual = "the method's" if field.default is None else _shown(field.default)
    other: dict[str, list[str]] = {}
    for family, preset in chosen.presets.items():
        if key in preset and preset[key] != field.default:
            other.setdefault(_shown(preset[key]), []).append(family)
    return "; ".join([f"default: {usual}", *(f"{value} on {_listed(families)}" for value, families in other.items())])


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
