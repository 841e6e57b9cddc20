"""One real ComfyUI for all tests of the nodes, and its modules in this process for those that look inside."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(Path(__file__).resolve().parent)]

import in_process  # noqa: E402
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
    return in_process.load_host(tmp_path_factory.mktemp("in-process"))


@pytest.fixture(scope="session")
def pack(comfy: ModuleType) -> ModuleType:
    """This repository as ComfyUI loads it; its modules are `concept_eraser_pack.nodes. ...`."""
    return in_process.load_pack()


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    os.environ.update(ONE_THREAD)


@pytest.fixture(scope="session")
def pocket_file() -> Path:
    """The pocket checkpoint that the host's loader lists."""
    other = os.environ.get("CONCEPT_ERASER_POCKET")
    return (Path(other) if other else REPO / "eraser_core" / "pocket" / "checkpoint") / "pocket.safetensors"
