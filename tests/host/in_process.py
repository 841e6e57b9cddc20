"""ComfyUI's modules and this pack in the process that asks, without a server."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).resolve().parents[2]
PACK = "concept_eraser_pack"


def load_host(base: Path, arguments: Sequence[str] = ("--cpu",)) -> ModuleType:
    """The host's `nodes` module, with `base` for models, input and output; `arguments` are the host's own.

    On an NVIDIA card a host that can stream weights (dynamic VRAM, from 0.13 on) does so, as its main.py decides.
    """
    from scripts import comfyui_host

    comfyui_host.write_hook()
    source = str(comfyui_host.source())
    argv, sys.argv = sys.argv, ["main.py", *arguments, "--base-directory"]
    sys.argv.append(str(comfyui_host.base_directory(base)))
    sys.path.insert(0, source)
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args
        import utils.extra_config  # noqa: F401 (first, as in main.py: nodes.py puts comfy/ and its utils.py in front)
    finally:
        sys.argv = argv
    if hasattr(comfy.cli_args, "enables_dynamic_vram") and comfy.cli_args.enables_dynamic_vram():
        _stream_weights()
    import nodes

    assert Path(str(nodes.__file__)).parent == Path(source), "this repository's nodes/ shadows ComfyUI's nodes.py"
    return nodes


def _stream_weights() -> None:
    """What the host's main.py does before it imports anything that holds a model."""
    import comfy_aimdo.control as control

    control.init()
    import comfy.memory_management
    import comfy.model_management
    import comfy.model_patcher

    devices = comfy.model_management.get_all_torch_devices()
    try:
        able = control.init_devices((device.index, 0) for device in devices)
    except TypeError:  # an older protocol
        able = control.init_devices(device.index for device in devices)
    if able:
        comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        comfy.memory_management.aimdo_enabled = True


def load_pack() -> ModuleType:
    """This repository as ComfyUI loads it: a package of its own name."""
    spec = importlib.util.spec_from_file_location(PACK, REPO / "__init__.py", submodule_search_locations=[str(REPO)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    importlib.import_module(f"{PACK}.nodes").extension()
    return module
