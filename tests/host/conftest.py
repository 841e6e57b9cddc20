"""One real ComfyUI for all tests of the nodes, and its modules in this process for those that look inside."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(Path(__file__).resolve().parent)]

from host_client import Client  # noqa: E402

from scripts import comfyui_host  # noqa: E402

# several threads wait for each other on a busy machine: the same small graph took 65 s against 3.6 s
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the running server first: then no test's ComfyUI in this process competes with its start."""
    here = str(Path(__file__).resolve().parent)
    items.sort(key=lambda item: str(item.path).startswith(here))


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a ComfyUI that knows this pack alone; its folders vanish with the session."""
    comfyui_host.write_hook()
    base = tmp_path_factory.mktemp("comfyui")
    log = base / "host.log"
    arguments = ["--cpu", *comfyui_host.isolated_arguments()]
    with log.open("w") as output:
        running = comfyui_host.Host(base, arguments=arguments, output=output, environment=ONE_THREAD)
        try:
            with running:
                running.wait_ready()
                yield Client(running.url, base)
        except RuntimeError as error:
            pytest.fail(f"{error}\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The host's `nodes` module, imported into this process, on the CPU, with folders of its own."""
    comfyui_host.write_hook()
    base = comfyui_host.base_directory(tmp_path_factory.mktemp("in-process"))
    source = str(comfyui_host.source())
    argv, sys.argv = sys.argv, ["main.py", "--cpu", "--base-directory", str(base)]
    sys.path.insert(0, source)
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args
        import utils.extra_config  # noqa: F401 (first, as in main.py: nodes.py puts comfy/ and its utils.py in front)
    finally:
        sys.argv = argv
    import nodes

    assert Path(nodes.__file__).parent == Path(source), "this repository's nodes/ shadows ComfyUI's nodes.py"
    return nodes


@pytest.fixture(scope="session")
def pack(comfy: ModuleType) -> ModuleType:
    """This repository as ComfyUI loads it: a package of its own name; its modules are `pack.nodes.…`."""
    name = "concept_eraser_pack"
    spec = importlib.util.spec_from_file_location(name, REPO / "__init__.py", submodule_search_locations=[str(REPO)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    importlib.import_module(f"{name}.nodes").extension()
    return module


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    os.environ.update(ONE_THREAD)


@pytest.fixture(scope="session")
def pocket_file() -> Path:
    """The pocket checkpoint that the host's loader lists."""
    other = os.environ.get("CONCEPT_ERASER_POCKET")
    return Path(other) / "pocket.safetensors" if other else next((REPO / "eraser_core").rglob("pocket.safetensors"))
