"""What a killed run left: is every file whole, is anything of an earlier run lost, and is it the same in the end?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from eraser_core import records
from eraser_core.commands import folder
from eraser_core.erasure import load_erasure
from eraser_core.errors import EraserError
from eraser_core.evaluation.suites.manifest import MANIFEST
from eraser_core.files import read_tensors, tensors_hash
from eraser_core.hidden_prompt import load_prompts
from eraser_core.training import read_checkpoint

FIGURES = (folder.PICTURE, folder.METRICS, "erasure.evaluation.json", "erasure.evaluation.pocket.png")
SHARED = "shared"  # the folder that `share` writes
ENDS = {".html": b"</p>", ".svg": b"</svg>", ".md": b"\n"}


def files(where: Path) -> dict[str, bytes]:
    """Everything that lies below a folder, by its path in it."""
    return {str(p.relative_to(where)): p.read_bytes() for p in sorted(where.rglob("*")) if p.is_file()}


def parts(where: Path) -> list[str]:
    """What was left under a passing name."""
    return [name for name in files(where) if any(piece.endswith(".part") for piece in Path(name).parts)]


def half_written(where: Path) -> list[str]:
    """The files under a name of their own that their own reader refuses, with what it says."""
    found = []
    for path in sorted(p for p in where.rglob("*") if p.is_file() and not p.name.endswith((".part", ".lock"))):
        try:
            wrong = _read(path)
        except (EraserError, OSError, SyntaxError) as error:  # Pillow raises the last two
            wrong = str(error)
        if wrong:
            found.append(f"{path.relative_to(where)}: {wrong}")
    return found


def _read(path: Path) -> str:
    """What is wrong with a file; its reader may say it by an error."""
    if path.suffix == ".safetensors":
        _read_tensors(path)
    elif path.suffix == ".json":
        said = records.read_json(path)
        if path.name == MANIFEST:
            records.read(records.ManifestRecord, said, path)
        elif path.name.endswith(".evaluation.json"):
            records.read(records.SidecarRecord, said, path)
    elif path.suffix == ".png":
        with Image.open(path) as picture:
            picture.load()
    elif path.suffix in ENDS:
        return "" if path.read_bytes().endswith((ENDS[path.suffix], ENDS[path.suffix] + b"\n")) else "cut short"
    else:
        return "a file that nobody knows"
    return ""


def _read_tensors(path: Path) -> None:
    if path.name == folder.ERASURE or path.parent.name == "loras":
        load_erasure(path)
    elif path.name == folder.PROMPT or path.parent.name == "hidden_prompts":
        load_prompts(path)
    elif path.name == folder.CHECKPOINT:
        read_checkpoint(path)
    else:
        read_tensors(path)


def tensors(paths: Iterable[Path]) -> dict[str, str]:
    """The hash of each file's tensors, by the file's name: what "the same tensors" compares."""
    return {path.name: tensors_hash(read_tensors(path)[0]) for path in paths if path.is_file()}


def of_erasing(where: Path) -> dict[str, str]:
    """The erasure and its hidden prompt."""
    return tensors(where / name for name in (folder.ERASURE, folder.PROMPT))


def of_benchmark(where: Path) -> dict[str, str]:
    """Pictures and tables by their bytes, scores by their tensors."""
    found = {str(p.relative_to(where)): _hash(p) for p in where.rglob("*.png")}
    found |= {str(p.relative_to(where)): tensors_hash(read_tensors(p)[0]) for p in where.rglob("*.safetensors")}
    return found | {p.name: _hash(p) for p in where.glob("tables.json")}


def of_files(where: Path) -> dict[str, str]:
    """Every safetensors file there by its tensors; whatever its folder."""
    return tensors(sorted(where.rglob("*.safetensors")))


def of_share(where: Path) -> dict[str, str]:
    """Every file of a shared folder by its bytes."""
    return {path.name: _hash(path) for path in sorted((where / SHARED).glob("*"))}


def lost_from_share(where: Path, before: dict[str, bytes], wanted: dict[str, str]) -> list[str]:
    """What is wrong with a shared folder that is being replaced: it is the earlier one whole, or the new one whole."""
    if of_share(where) == wanted:
        return []
    now = {name: data for name, data in files(where).items() if Path(name).parts[0] == SHARED}
    earlier = {name: data for name, data in before.items() if Path(name).parts[0] == SHARED}
    return [] if now == earlier else [f"neither the earlier folder nor the new one: {sorted(now)}"]


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lost_from_erasing(where: Path, before: dict[str, bytes], wanted: dict[str, str]) -> list[str]:
    """What is wrong with an earlier erasing's folder after another one began to replace it.

    The earlier result is there, or the new one is and nothing of the earlier beside it, or a checkpoint leads to the new
    one. The earlier figures may go as soon as the new tensors are on the disk; they are made again from the earlier files.
    """
    now = files(where)
    if folder.CHECKPOINT in now and folder.RUN in now:
        return [] if folder.ERASURE in now or folder.ERASURE not in before else ["no erasure at all"]
    same = {name for name, data in before.items() if now.get(name) == data}
    if folder.ERASURE in before and all(name in same for name in before if name in (folder.ERASURE, folder.PROMPT)):
        changed = [name for name in FIGURES if name in now and name not in same]
        return [f"{name} is of another run than the erasure" for name in changed]
    kept = [name for name in same if name in FIGURES]
    new = of_erasing(where)
    if folder.PROMPT in same and folder.PROMPT not in wanted and _of_another(where):
        new.pop(folder.PROMPT)  # the last that goes; whoever gives it with the new erasure is told so
    if new != wanted or kept:
        return [f"neither the earlier result nor the new one; of the earlier: {sorted(same)}"]
    return []


def _of_another(where: Path) -> bool:
    """Whether the hidden prompt says itself that it belongs to another erasure."""
    _, metadata = load_prompts(where / folder.PROMPT)
    return metadata["hidden_prompt.erasure_hash"] != load_erasure(where / folder.ERASURE).hash()


def lost_files(where: Path, before: dict[str, bytes], wanted: dict[str, str]) -> list[str]:
    """Files of an earlier run that are neither as they were nor the new run's whole."""
    now, new = files(where), of_files(where)
    changed = [name for name, data in before.items() if not name.endswith(".part") and now.get(name) != data]
    return [name for name in changed if name not in now or new.get(Path(name).name) != wanted.get(Path(name).name)]


def lost_from_benchmark(where: Path, before: dict[str, bytes], _: dict[str, str]) -> list[str]:
    """Pages of an earlier run beside the manifest of another one: figures of something else."""
    now = files(where)
    if not before or now.get(MANIFEST) == before.get(MANIFEST):
        return [] if MANIFEST in now or not before else ["the manifest"]
    stale = [name for name in ("tables.json", "tables.md", "report.html") if name in now and now[name] == before[name]]
    return [f"{name} is of the earlier run" for name in stale]
