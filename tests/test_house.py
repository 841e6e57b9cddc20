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


def test_an_audit_knows_no_method():
    assert not breaks(modules("eraser_core/audit"), "eraser_core.methods", "eraser_core.erasing")


def test_nothing_below_the_host_room_knows_a_node():
    """nodes/host/ is what knows ComfyUI's inside; nodes stand on it."""
    nodes = [f"nodes.{p.stem}" for p in (ROOT / "nodes").glob("*.py") if p.stem != "__init__"]
    assert not breaks(modules("nodes/host"), *nodes)


def test_no_circle_of_imports():
    assert circles(graph("eraser_core", "nodes")) == []


def test_a_circle_would_be_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def graph(*rooms: str) -> dict[str, set[str]]:
    """Which module imports which, those that are for types alone too."""
    named = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in modules(*rooms)}
    return {name: {i for i in imported(path) if i in named and i != name} for name, path in named.items()}


def imported(path: Path) -> set[str]:
    """As `imports`, and what may be a module among the names that are taken from a package."""
    found, package = imports(path), path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            found |= {".".join(x for x in (base, node.module, alias.name) if x) for alias in node.names}
            if node.module is None:
                found.discard(base)  # "from . import x" takes x, not the package
    return found


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other."""
    reach = {name: reached(arrows, name) for name in arrows}
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in arrows if a in reach[a]}
    return [list(group) for group in sorted(groups)]


def reached(arrows: dict[str, set[str]], start: str) -> set[str]:
    found, ahead = set[str](), list(arrows[start])
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += arrows.get(name, ())
    return found


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
