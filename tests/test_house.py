"""What may import what, and what may not be in the repository."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def imports(path: Path) -> set[str]:
    """Absolute names of everything a module imports, at any depth of its code."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            found.add(".".join(x for x in (base, node.module) if x))
    return found


def modules(*rooms: str) -> list[Path]:
    return [p for room in rooms for p in sorted((ROOT / room).rglob("*.py"))]


def breaks(paths: list[Path], *never: str) -> list[tuple[str, str]]:
    return [(p.name, i) for p in paths for i in imports(p) if any(i == n or i.startswith(n + ".") for n in never)]


def test_the_engine_knows_no_comfyui():
    assert not breaks(modules("eraser_core"), "comfy", "comfy_api", "nodes", "folder_paths", "server", "execution")


def test_a_method_knows_no_backend_and_no_other_method():
    methods = [p for p in modules("eraser_core/methods") if p.name != "__init__.py"]
    names = tuple(f"eraser_core.methods.{p.stem}" for p in methods)
    for path in methods:
        others = [n for n in names if n != f"eraser_core.methods.{path.stem}"]
        assert not breaks([path], "eraser_core.backends", "eraser_core.evaluation", "eraser_core.pocket", *others)


def test_evaluation_knows_no_method():
    assert not breaks(modules("eraser_core/evaluation"), "eraser_core.methods", "eraser_core.training")


def test_the_check_itself_sees_a_break():
    assert breaks([ROOT / "eraser_core" / "backends" / "pocket.py"], "eraser_core.pocket")


def test_nothing_is_pickled_printed_or_asserted_in_the_engine():
    for path in modules("eraser_core", "nodes"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), path
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", path
        assert "pickle." not in path.read_text(encoding="utf-8"), path
