"""A real ComfyUI in this process, on a CUDA device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "host"))
import in_process


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("on-gpu")


@pytest.fixture(scope="session")
def host(base: Path) -> Any:
    nodes = in_process.load_host(base, arguments=[])
    in_process.load_pack()
    import comfy.model_management as memory

    assert memory.get_torch_device().type == "cuda"
    return nodes


@pytest.fixture(scope="session")
def checkpoint(host: Any) -> Any:
    with torch.inference_mode():
        return host.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")
