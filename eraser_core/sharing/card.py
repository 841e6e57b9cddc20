"""The model card: what is erased, how well, at what cost, and how to use it in each program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import model_spec
from ..erasure import Erasure, LowRank, reads_in_diffusers
from ..evaluation.report.sidecar import AUDIT
from ..files import size_said
from ..pocket.concepts import FAMILIES as POCKETS
from .folder import MARK, PICTURE, WORKFLOW

REPOSITORY = "https://github.com/concept-eraser/ComfyUI-ConceptEraser"
FAMILIES = {
    "sd1": ("Stable Diffusion 1.x", "stable-diffusion"),
    "sd2": ("Stable Diffusion 2.x", "stable-diffusion"),
    "sdxl": ("Stable Diffusion XL", "stable-diffusion-xl"),
    "pocket": ("the pocket model of ConceptEraser", ""),
    "pocket-flow": ("the flow-matching pocket model of ConceptEraser", ""),
}
WITH_PROMPT = ("kpop", "locked")
SHOWN = 12  # retained concepts by name
NOT_SAID = "not said"


@dataclass(frozen=True)
class Wishes:
    """What the file does not say: the licence's identifier, the base model's name, the author."""

    licence: str = ""
    base: str = ""
    author: str = ""


@dataclass(frozen=True)
class Said:
    """An erasure and what its card is written from: the file's name, its size in bytes, wishes, suites of figures."""

    erasure: Erasure
    name: str
    size: int
    wishes: Wishes
    suites: Mapping[str, Any]
    picture: bool
    workflow: bool

    @property
    def targets(self) -> list[tuple[str, str]]:
        """(concept, anchor)."""
        concepts, anchors = (json.loads(self.erasure.fact(name)) for name in ("targets", "anchor"))
        return list(zip(concepts, anchors, strict=True))

    @property
    def prediction(self) -> str:
        return self.erasure.facts.get("modelspec.prediction_type", "epsilon")

    @property
    def title(self) -> str:
        return "Erased: " + ", ".join(plain(concept) for concept, _ in self.targets)


def plain(text: str) -> str:
    """Words from a file as Markdown shows them in a line: no markup, no table of their own."""
    return "".join("\\" + c if c in "\\`*_[]<>|#" else c for c in " ".join(text.split()))


def card(said: Said) -> str:
    """README.md."""
    parts = [_front(said), MARK, _what(said), _figures(said), _use(said), _limits(said)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(said: Said) -> str:
    """The hub's own entries. A JSON text is a YAML text, so words from a file cannot become entries."""
    tag = FAMILIES.get(said.erasure.family, ("", ""))[1]
    diffusers = reads_in_diffusers(said.erasure)
    kinds = {isinstance(e, LowRank) for e in said.erasure.entries.values()}
    tags = ["concept-erasure", "concept-eraser", said.erasure.fact("method"), *(["lora"] if kinds == {True} else [])]
    entries: dict[str, Any] = {
        "license": said.wishes.licence or None,
        "base_model": said.wishes.base or None,
        "base_model_relation": "adapter" if said.wishes.base else None,
        "library_name": "diffusers" if diffusers else "concept-eraser",
        "pipeline_tag": "text-to-image",
        "tags": ["text-to-image", *tags, *([tag] if tag else [])],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in entries.items() if value]
    if diffusers:
        lines.append("instance_prompt: null")  # no word of a prompt turns it on
    return "\n".join(["---", *lines, "---"])


def _what(said: Said) -> str:
    erasure = said.erasure
    family = FAMILIES.get(erasure.family, (erasure.family, ""))[0]
    facts = model_spec.family_facts(erasure.family, said.prediction)
    asked = json.loads(erasure.facts.get("erasure.request", "{}"))
    synonyms = [word for target in asked.get("targets", []) for word in target["synonyms"]]
    ranks = {e.rank if isinstance(e, LowRank) else 0 for e in erasure.entries.values()}
    kind = "dense" if ranks == {0} else f"low-rank, rank {max(ranks)}" + (" at most" if len(ranks) > 1 else "")
    rows = {
        "erased": ", ".join(plain(concept) for concept, _ in said.targets),
        "drawn in its place": ", ".join(plain(a) if a else "nothing in particular" for _, a in said.targets),
        "erased with it": _some(synonyms, ""),
        "kept by training": _some(json.loads(erasure.facts.get("erasure.retain", "[]")), "nothing was named"),
        "method": f"{plain(erasure.fact('method'))} ({plain(erasure.facts.get('erasure.paper', NOT_SAID))})",
        "made for": f"{plain(family)}, {facts.get('modelspec.resolution', 'any size')}, {said.prediction}-prediction",
        "base model": plain(said.wishes.base) or NOT_SAID,
        "hash of the base's attention": f"`{plain(erasure.base_hash[:16])}`",
        "file": f"`{said.name}`, {size_said(said.size)}, {len(erasure.entries)} weights, {kind}",
        "hash of the tensors": f"`{erasure.hash()}`",
        "author": plain(said.wishes.author) or NOT_SAID,
        "licence": plain(said.wishes.licence) or NOT_SAID,
        "made on": plain(erasure.facts.get("modelspec.date", NOT_SAID)),
    }
    picture = f"\n\n![Before and after]({PICTURE})" if said.picture else "\n\nThere is no picture of it here."
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value]
    head = f"# {said.title}\n\nA small file, made to stop {plain(family)} from drawing {rows['erased']}."
    return head + picture + "\n\n" + "\n".join(["| | |", "|---|---|", *lines])


def _some(words: Sequence[str], nothing: str) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(plain(word) for word in words[:SHOWN]) + more if words else nothing


def _figures(said: Said) -> str:
    head = (
        "## How strong it is, and what it costs\n\nIt was trained for strength 1. Strength 0 turns it off. More than 1 "
    )
    head += "erases harder and harms other concepts more."
    if not said.suites:
        return head + "\n\nThere are no figures of it: nobody has measured how well it erases or what else it harms."
    tables = [_table(name, table) for name, suite in said.suites.items() for table in suite["tables"]]
    return "\n\n".join([head, *tables])


def _table(suite: str, said: Mapping[str, Any]) -> str:
    """Without other people's figures; the longer side goes down."""
    rows = [row for row in said["rows"] if not row.get("quoted")]
    known = {column for row in rows for column in row["cells"]}
    names = {head: head if head in known else head.rpartition(" ")[0] for head in said["columns"]}
    cells = [["", *names], *([row["name"], *(_cell(row["cells"].get(c)) for c in names.values())] for row in rows)]
    if len(rows) <= len(names):
        turned = [list(line) for line in zip(*cells, strict=True)]
        cells = [turned[0], *(line for line in turned[1:] if any(line[1:]))]
    lines = ["| " + " | ".join([plain(line[0]), *line[1:]]) + " |" for line in cells[1:]]
    head = "| | " + " | ".join(plain(name) for name in cells[0][1:]) + " |"
    title = f"### {plain(said['title'])} (suite {plain(suite)})"
    note = ["", plain(said["note"])] if said.get("note") else []
    return "\n".join([title, "", head, "|---|" + "---|" * (len(cells[0]) - 1), *lines, *note])


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    return plain(str(cell["text"])) + (f", n = {plain(str(cell['n']))}" if "n" in cell else "")


def _use(said: Said) -> str:
    name, stem = said.name, said.name.rpartition(".")[0]
    parts = [
        f"## How to use it\n\n**ComfyUI with [ConceptEraser]({REPOSITORY}).** Put `{name}` into `models/loras`. Choose it in "
        "*Apply Sanitized UNet*. The node says so where the file is for another model."
    ]
    if said.workflow:
        parts[0] += f" `{WORKFLOW}` is a workflow with this file in it: drop it on ComfyUI."
    parts.append("**ComfyUI without it.** Put the file into `models/loras` and load it with *LoraLoaderModelOnly*.")
    if said.erasure.family in POCKETS:
        parts[-1] += " The pocket model itself comes with ConceptEraser."
        parts.append("**Other programs.** They do not know the pocket model.")
        return "\n\n".join(parts)
    parts.append(
        f"**A1111, Forge.** Put the file into `models/Lora` and write `<lora:{stem}:1>` into the prompt. The file has the "
        "format of their LoRAs. We have not tried it there."
    )
    if reads_in_diffusers(said.erasure):
        base = said.wishes.base or "the base model"
        parts.append(
            "**diffusers** (with peft installed).\n\n```python\nfrom diffusers import AutoPipelineForText2Image\n\n"
            f"pipe = AutoPipelineForText2Image.from_pretrained({json.dumps(base)})\n"
            f'pipe.load_lora_weights(".", weight_name={json.dumps(name)})  # "." is this folder\n```'
        )
    else:
        parts.append(
            "**diffusers.** Its LoRA loader does not read this file: some of its changes are dense. `python -m eraser_core merge` writes a whole checkpoint that it reads."
        )
    return "\n\n".join(parts)


def _limits(said: Said) -> str:
    lines = [
        "## What it does not do",
        "",
        "- It hides the concept. The model does not forget it.",
        "- Whoever leaves this file out has the original model.",
        "- Whoever has the erased weights can train a prompt that brings the concept back.",
    ]
    verdict = said.suites.get(AUDIT, {}).get("verdict")
    if verdict:
        lines.append(f"- An audit tried to bring it back: {plain(verdict)}")
    if said.erasure.fact("method") in WITH_PROMPT:
        lines.append("- The hidden prompt of this erasure is not in this folder. It stays with the author.")
    if said.erasure.family in POCKETS and said.picture:
        lines += [
            "",
            f"Credits for the art that the pictures resemble: {REPOSITORY}/blob/main/eraser_core/pocket/NOTICE.md",
        ]
    return "\n".join(lines)
