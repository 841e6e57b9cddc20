"""A LoRA of anybody's, read as a change of a model's weights: what is not ours can be audited too.

Read are kohya's names (`lora_unet_... .lora_up.weight`) and those of diffusers and peft (`unet. ... .lora_B.weight`), with low
rank factors and dense changes. Changes of a text encoder are counted and left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from . import records
from .erasure import SCHEMA, Entry, Erasure, load_erasure, read_entry
from .errors import FileFormatError, RequestError
from .files import read_metadata, read_tensors

PROMPT = "hidden_prompt.schema"
# The endings of other programs, and those that our own files have in their place
_ENDINGS = {
    ".lora_up.weight": ".lora_up.weight",
    ".lora_down.weight": ".lora_down.weight",
    ".lora_B.weight": ".lora_up.weight",
    ".lora_A.weight": ".lora_down.weight",
    ".lora.up.weight": ".lora_up.weight",
    ".lora.down.weight": ".lora_down.weight",
    ".alpha": ".alpha",
    ".diff": ".diff",
    ".diff_b": ".diff_b",
}
_UNET, _TEXT = ("lora_unet_", "unet.", "diffusion_model."), ("lora_te", "text_encoder", "te_")


class Named(Protocol):
    """A model whose weights have names: a denoiser."""

    family: str

    def all_weights(self) -> Mapping[str, Tensor]: ...

    def file_names(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class PlainLora:
    """The change of the UNet as an erasure that says nothing of itself, and how many changes of text encoders it leaves out."""

    erasure: Erasure
    left_out: int

    @property
    def note(self) -> str:
        """What is to be said of it; "" where all of it is read."""
        if not self.left_out:
            return ""
        return f"The file also changes the text encoder ({self.left_out} tensors). That part was left out here."

    def beside(self, note: str) -> str:
        """What is to be said of another file, `note`, and then of this one as the second LoRA on top of it."""
        return " ".join(filter(None, (note, self.note.replace("The file", "The second LoRA", 1))))


def is_plain(path: Path) -> bool:
    """Whether a file is neither an erasure nor a hidden prompt of this program; FileFormatError where it cannot be read."""
    metadata = read_metadata(path)
    return metadata.get("erasure.schema") != SCHEMA and PROMPT not in metadata


def read_any(path: Path, model: Named) -> PlainLora:
    """A LoRA of anybody's, or an erasure of ours, for this model; raises as `read_lora` and `load_erasure` do."""
    return read_lora(path, model) if is_plain(path) else PlainLora(load_erasure(path), 0)


def read_lora(path: Path, model: Named) -> PlainLora:
    """The LoRA in a file, for this model.

    FileFormatError: it holds no LoRA, one of a kind that is not read, or numbers that are none. RequestError: it was made for
    another kind of model.
    """
    tensors, _ = read_tensors(path)
    records.finite({name: t for name, t in tensors.items() if not name.endswith(".alpha")}, path)
    named, left_out = _named(tensors, path)
    modules, weights = _modules(model), model.all_weights()
    entries: dict[str, Entry] = {}
    missing = [name for name in named if name not in modules]
    for name, found in named.items():
        if name in missing:
            continue
        left = {name + ending: tensor for ending, tensor in found.items()}
        for parameter in (".bias",) if set(found) == {".diff_b"} else (".weight",):
            entries[modules[name] + parameter] = read_entry(modules[name] + parameter, name, left, path)
        if f"{name}.diff_b" in left:
            entries[modules[name] + ".bias"] = read_entry(modules[name] + ".bias", name, left, path)
    wrong = [key for key, entry in entries.items() if key not in weights or entry.shape != weights[key].shape]
    if missing or wrong:
        first = (missing or wrong)[0]
        raise RequestError(
            f"{path} was made for another kind of model: {len(missing) + len(wrong)} of its {len(named)} changes "
            f"({first}, ...) have no place in this one, of the family {model.family!r}; use the model it was made for"
        )
    names = {key.rpartition(".")[0]: model.file_names()[key.rpartition(".")[0]] for key in entries}
    return PlainLora(Erasure(entries, names, model.family, ""), left_out)


def _named(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, dict[str, Tensor]], int]:
    """Tensors by kohya's name of their module and our ending; and how many are a text encoder's."""
    found: dict[str, dict[str, Tensor]] = {}
    left_out = 0
    for full, tensor in tensors.items():
        ending = next((end for end in _ENDINGS if full.endswith(end)), None)
        if full.startswith(_TEXT):
            left_out += 1
        elif not full.startswith(_UNET) or ending is None:
            raise FileFormatError(
                f"{path} is neither an erasure nor a LoRA of a kind that is read here ({full}): low-rank factors and dense "
                "changes with the names of kohya or diffusers are"
            )
        else:
            module = full.removesuffix(ending)
            prefix = next(prefix for prefix in _UNET if module.startswith(prefix))
            name = "lora_unet_" + module.removeprefix(prefix).replace(".", "_")
            found.setdefault(name, {})[_ENDINGS[ending]] = tensor
    if not found:
        raise FileFormatError(f"{path} changes no UNet: there is nothing to audit")
    return found, left_out


def _modules(model: Named) -> dict[str, str]:
    """Canonical names by kohya's, in both of the ways in which files name modules: diffusers' and LDM's."""
    found = {}
    for module, name in model.file_names().items():
        found["lora_unet_" + module.removeprefix("diffusion_model.").replace(".", "_")] = module
        found[name] = module
    return found
