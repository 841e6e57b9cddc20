"""Where erasures and hidden prompts lie, by ComfyUI's own folder lists."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import folder_paths

from eraser_core.errors import RequestError
from eraser_core.spelling import close, did_you_mean

PROMPTS = "hidden_prompts"
FIGURES = ".evaluation.json"  # beside an erasure
LORAS = "loras"
LONGEST = 200  # bytes of a name: file systems allow 255, and a counter, an ending and a temporary one are added
SHOWN = 60  # letters of a prefix in a message


EXAMPLES = Path(__file__).resolve().parents[2] / "shared_examples"


def register() -> None:
    """Make `models/hidden_prompts` and `output/hidden_prompts` the folders of the list "hidden_prompts".

    Both lists also show the examples that the pack brings, which are only read.
    """
    for parent in (Path(folder_paths.models_dir), Path(folder_paths.get_output_directory())):
        folder_paths.add_model_folder_path(PROMPTS, str(parent / PROMPTS))
    for kind in (LORAS, PROMPTS):
        folder_paths.add_model_folder_path(kind, str(EXAMPLES / kind))
    folder_paths.folder_names_and_paths[PROMPTS][1].add(".safetensors")


def names(kind: str) -> list[str]:
    """The files of a list, as its combo shows them."""
    return [name for name in folder_paths.get_filename_list(kind) if name.endswith(".safetensors")]


def find(kind: str, name: str, hidden: Any = None) -> Path:
    """The path of a listed file.

    RequestError says where it should lie, and what the workflow says of it: `hidden` is a node's, with its id and the
    workflow.
    """
    found = folder_paths.get_full_path(kind, name) if name else None
    if found is None:
        where = " or ".join(path for path in folder_paths.get_folder_paths(kind) if path != str(EXAMPLES / kind))
        if not name:
            raise RequestError(f"no file is chosen: put one into {where}, refresh the node list (key R) and choose it")
        hint = recipe((hidden.extra_pnginfo or {}).get("workflow"), hidden.unique_id, name) if hidden else ""
        hint = hint or _alike(kind, name)
        raise RequestError(
            f"there is no file {name!r} in the list {kind!r}: put it into {where} and refresh the node list (key R){hint}"
        )
    return Path(found)


def _alike(kind: str, name: str) -> str:
    """A question that names the listed files that are written like this name."""
    ending = ".safetensors"  # which all of them have: it says nothing of how near they are
    found = close(name.removesuffix(ending), (listed.removesuffix(ending) for listed in names(kind)))
    return did_you_mean(stem + ending for stem in found)


def recipe(workflow: Any, node_id: Any, name: str) -> str:
    """What the workflow's own node says of a file: its hash, where it comes from, and how to make it."""
    nodes = workflow.get("nodes", []) if isinstance(workflow, dict) else []
    own: dict[str, Any] = next((n for n in nodes if str(n.get("id")) == str(node_id)), {})
    properties = own.get("properties", {})
    for model in properties.get("models", []):
        if model.get("name") == name:
            said = [f"from {model['url']}"] if model.get("url") else []
            said += [f"{model.get('hash_type', 'hash')} {model['hash']}"] if model.get("hash") else []
            made = properties.get("made_by")
            said += [f"or make it yourself: {made}"] if made else []
            return ". This workflow's file is " + ", ".join(said) if said else ""
    return ""


def file_hash(kind: str, name: str) -> str:
    """What makes a cached result stale: the file's size and time of change; "missing" when it is not there."""
    found = folder_paths.get_full_path(kind, name) if name else None
    if found is None:
        return "missing"
    facts = Path(found).stat()
    return f"{facts.st_size}/{facts.st_mtime_ns}"


def with_figures() -> list[Path]:
    """The listed LoRA files that have figures beside them."""
    paths = [folder_paths.get_full_path(LORAS, name) for name in names(LORAS)]
    return [path for path in map(Path, filter(None, paths)) if path.with_suffix(FIGURES).is_file()]


def figures_hash() -> str:
    """What makes a cached result stale that depends on any of those figures."""
    said = [(str(path), path.with_suffix(FIGURES).stat().st_mtime_ns) for path in with_figures()]
    return hashlib.sha256(repr(said).encode("utf-8")).hexdigest()


def check_prefix(prefix: str) -> None:
    """RequestError when no file can be written under a prefix such as "loras/erased". Makes no folder."""
    said, hint = f"the file name prefix {prefix[:SHOWN]!r}", "use one such as loras/erased"
    if not prefix.strip() or prefix.strip()[-1] in "/\\.":
        raise RequestError(f"{said} ends without a name: {hint}")
    if any(ord(letter) < ord(" ") for letter in prefix):
        raise RequestError(f"{said} holds a letter that no name may have: {hint}")
    if max(len(part.encode()) for part in prefix.replace("\\", "/").split("/")) > LONGEST:
        raise RequestError(f"{said}... is too long: a name has at most {LONGEST} bytes; {hint}")
    output = Path(folder_paths.get_output_directory()).absolute()
    path = Path(os.path.normpath(output / prefix))
    if not path.is_relative_to(output) or path == output:
        raise RequestError(f"{said} leads out of {output}: {hint}")
    file = next((folder for folder in path.parents if folder.is_file()), None)
    if file is not None:
        raise RequestError(f"{said} wants a folder where {file} is a file: {hint}")


def new_file(prefix: str) -> Path:
    """A path that is not taken yet for a prefix such as "loras/erased", below ComfyUI's output folder.

    RequestError as `check_prefix`. Its folder is made by whoever writes, so that a refusal after this leaves none; only
    where the prefix has one of the host's %words% the host makes it.
    """
    check_prefix(prefix)
    output = folder_paths.get_output_directory()
    path = Path(os.path.normpath(Path(output) / prefix))
    if "%" not in prefix and not path.parent.exists():
        return path.with_name(f"{path.name}_00001_.safetensors")
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, output)
    return Path(folder) / f"{name}_{counter:05}_.safetensors"
