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

FIGURES = (folder.PICTURE, folder.METRICS, "guitar.evaluation.json")
ERASURES = ("church.safetensors", "guitar.safetensors")  # the runs that are killed erase the one, or the other before
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
    if path.name in ERASURES or path.parent.name == "loras":
        load_erasure(path)
    elif path.name == Path(folder.CHECKPOINT).name:
        read_checkpoint(path)
    elif path.parent.name in (folder.PRIVATE, "hidden_prompts"):
        load_prompts(path)
    else:
        read_tensors(path)


def tensors(paths: Iterable[Path]) -> dict[str, str]:
    """The hash of each file's tensors, by the file's name: what "the same tensors" compares."""
    return {path.name: tensors_hash(read_tensors(path)[0]) for path in paths if path.is_file()}


def of_erasing(where: Path) -> dict[str, str]:
    """The erasure and its hidden prompt, and whatever an earlier run left of its own."""
    return tensors(path for path in where.rglob("*.safetensors") if path != where / folder.CHECKPOINT)


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
    old = [name for name in before if name.endswith(".safetensors") and name != str(folder.CHECKPOINT)]
    if folder.CHECKPOINT in now and folder.RUN in now:
        return [] if not old or any(name in now for name in ERASURES) else ["no erasure at all"]
    same = {name for name, data in before.items() if now.get(name) == data}
    if old and same.issuperset(old):
        changed = [name for name in FIGURES if name in now and name not in same]
        return [f"{name} is of another run than the erasure" for name in changed]
    kept = [name for name in same if name in FIGURES]
    left = {Path(name).name for name in same if name in old}  # the last that go
    new = {name: tensors for name, tensors in of_erasing(where).items() if name not in left}
    if new != wanted or kept:
        return [f"neither the earlier result nor the new one; of the earlier: {sorted(same)}"]
    return []


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
