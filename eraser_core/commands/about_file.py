"""What an erasure or a hidden prompt says of itself, for a person, and as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..erasure import SCHEMA, Erasure, LowRank, load_erasure
from ..errors import FileFormatError
from ..evaluation.report.sidecar import audit_verdict
from ..files import read_tensors, size_said
from ..hidden_prompt import SCHEMA as PROMPT_SCHEMA
from ..hidden_prompt import load_prompts
from ..methods import METHODS
from ..optout.said import optout_of
from .said import command

_HIDDEN = ("hidden_prompt.key_seed", "erasure.keys")  # the one is secret, the other thousands of letters
_SHOWN = 8  # words of a retain set, and concepts


def about(path: Path) -> str:
    """In words; FileFormatError where the file is neither."""
    _, metadata = read_tensors(path)
    if metadata.get("erasure.schema") == SCHEMA:
        found = _erasure(path, load_erasure(path))
    elif metadata.get("hidden_prompt.schema") == PROMPT_SCHEMA:
        found = _prompts(path)
    else:
        raise FileFormatError(f"{path} is neither a model nor an erasure or a hidden prompt of this program")
    width = max(map(len, found["lines"]))
    lines = [f"{path}: {found['kind']}", *(f"  {name:<{width}}  {said}" for name, said in found["lines"].items())]
    return "\n".join([*lines, f"all that it says: {command('info', '--raw', path)}"]) + "\n"


def raw(path: Path) -> str:
    """Every entry of its metadata, but what is secret or a picture."""
    tensors, metadata = read_tensors(path)
    lines = [f"{path}: {len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers"]
    for key, value in sorted(metadata.items()):
        if key not in _HIDDEN:
            picture = key == "modelspec.thumbnail"  # thousands of letters
            lines.append(f"  {key}: {f'a picture of {len(value):,} bytes' if picture else value}")
    return "\n".join(lines) + "\n"


def _erasure(path: Path, erasure: Erasure) -> dict[str, Any]:
    facts = erasure.facts
    concepts, anchors, retain = (_list(facts, name) for name in ("targets", "anchor", "retain"))
    pairs = [
        f"{concept}, drawing {anchor or 'nothing in particular'} in its place"
        for concept, anchor in zip(concepts, anchors, strict=False)
    ]
    if len(pairs) > _SHOWN:
        pairs = [*pairs[:_SHOWN], f"and {len(pairs) - _SHOWN} more"]
    method = METHODS.get(facts.get("erasure.method", ""))
    ranks = {entry.rank if isinstance(entry, LowRank) else 0 for entry in erasure.entries.values()}
    rank = "dense" if ranks == {0} else f"rank {max(ranks)}" if 0 not in ranks else "partly dense"
    kept = ", ".join(retain[:_SHOWN]) + (f" and {len(retain) - _SHOWN} more" if len(retain) > _SHOWN else "")
    lines = {
        "erases": "; ".join(pairs) or "it does not say what",
        "keeps": kept or "nothing was named to be kept",
        "method": f"{method.name} ({method.paper})" if method else facts.get("erasure.method", "it does not say which"),
        "size": f"{size_said(path.stat().st_size)}, {len(erasure.entries)} weights, {rank}",
        "base model": f"{erasure.family}, hash {erasure.base_hash[:12] or 'unknown'}",
        "made": facts.get("modelspec.date", "it does not say when"),
    }
    register = optout_of(facts)
    lines |= {"opt-outs": register} if register else {}
    verdict = audit_verdict(path, erasure.hash())
    return {"kind": "an erasure, to apply or share", "lines": lines | ({"audit": verdict} if verdict else {})}


def _prompts(path: Path) -> dict[str, Any]:
    prompts, metadata = load_prompts(path)
    lines = {
        "brings back": ", ".join(prompt.concept for prompt in prompts),
        "size": f"{prompts[0].tokens.shape[0]} tokens each, {prompts[0].mechanism}",
        "base model": metadata.get("hidden_prompt.family", "it does not say which"),
        "belongs to": f"the erasure of hash {metadata['hidden_prompt.erasure_hash'][:12]}",
    }
    return {"kind": "a hidden prompt (private: it brings the concept back)", "lines": lines}


def _list(facts: Mapping[str, str], name: str) -> list[str]:
    found: list[str] = json.loads(facts.get(f"erasure.{name}", "[]"))
    return found
