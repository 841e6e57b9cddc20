"""What the training scripts share: where things lie, speed measured before choosing a precision, checkpoints that survive a kill."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

log = logging.getLogger("pocket")

REPO = Path(__file__).resolve().parents[2]
if str(REPO) not in sys.path:  # so that the scripts run from a checkout that is not installed
    sys.path.insert(0, str(REPO))
CONCEPTS = REPO / "eraser_core" / "pocket" / "concepts.json"


def arguments(description: str | None, images: int, batch: int) -> argparse.ArgumentParser:
    """The flags that every training has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pocket"), help="folder of drawings and checkpoints")
    parser.add_argument("--images", type=int, default=images, help="stop after this many images seen")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="most CPU threads to use; 0: torch's own choice")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto measures both")
    parser.add_argument("--save-every", type=float, default=180.0, help="seconds between checkpoints")
    return parser


def start(args: argparse.Namespace) -> None:
    """Logging, threads and the one seed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class Drawings:
    """All drawings: images uint8 [objects, styles, sizes, 64, 64, 3]; codes name the first axis."""

    images: np.ndarray
    codes: tuple[str, ...]
    labels: tuple[str, ...]
    styles: tuple[str, ...]


def read_drawings(work: Path) -> Drawings:
    index = json.loads((work / "drawings.json").read_text(encoding="utf-8"))
    with np.load(work / "drawings.npz", allow_pickle=False) as archive:
        images = archive["images"]
    objects = index["objects"]
    return Drawings(
        images, tuple(o["code"] for o in objects), tuple(o["label"] for o in objects), tuple(index["styles"])
    )


def read_concepts() -> dict[str, Any]:
    return json.loads(CONCEPTS.read_text(encoding="utf-8"))


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """bf16 arithmetic on fp32 master weights, or plain fp32."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16")


def under_autocast(device: str, step: Callable[[], object]) -> dict[str, Callable[[], object]]:
    """The same step in both precisions, for `choose_precision`."""

    def run(precision: str) -> Callable[[], object]:
        def inside() -> None:
            with autocast(device, precision):
                step()

        return inside

    return {"fp32": run("fp32"), "bf16": run("bf16")}


def choose_precision(args: argparse.Namespace, steps: dict[str, Callable[[], object]], seconds: float = 2.0) -> str:
    """Time each precision's step (forward and backward, no update) and name the fastest.

    bf16 is faster on processors with AVX-512 bf16 and a hundred times slower without it, and nothing but a measurement tells.
    """
    if args.precision != "auto":
        return str(args.precision)
    speed: dict[str, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine several threads would measure the other programs (see Threads)
    for precision, step in steps.items():
        step()  # the first call pays for set-up
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            step()
            count += 1
            if torch.device(args.device).type == "cuda":
                torch.cuda.synchronize()
        speed[precision] = count / (time.perf_counter() - begin)
    torch.set_num_threads(threads)
    best = max(speed, key=lambda name: speed[name])
    log.info("steps/s, one thread: %s: %s", ", ".join(f"{name} {rate:.2f}" for name, rate in speed.items()), best)
    return best


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename: a kill leaves the old checkpoint or the new one, never half of one."""
    beside = path.with_suffix(".tmp")
    torch.save(state, beside)
    beside.replace(path)


def load_checkpoint(path: Path, device: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    return dict(torch.load(path, map_location=device, weights_only=True))


def write_json(path: Path, content: object) -> None:
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


class Progress:
    """A line of log every so often, and the moment to save."""

    def __init__(self, total: int, seen: int, save_every: float) -> None:
        self.total, self.seen, self.first, self.save_every = total, seen, seen, save_every
        self.began = self.logged = self.saved = time.monotonic()

    def update(self, images: int, text: str | Callable[[], str]) -> bool:
        """Count images; returns whether it is time to write a checkpoint. A callable text is only called when a line is due."""
        self.seen += images
        now = time.monotonic()
        if now - self.logged > 30:
            rate = (self.seen - self.first) / (now - self.began)
            left = (self.total - self.seen) / rate / 60
            log.info(
                "%d/%d images, %.0f/s, %.0f min left, %s",
                self.seen,
                self.total,
                rate,
                left,
                text if isinstance(text, str) else text(),
            )
            self.logged = now
        if now - self.saved > self.save_every:
            self.saved = now
            return True
        return False

    @property
    def hours(self) -> float:
        """Hours of this run alone."""
        return (time.monotonic() - self.began) / 3600


class Threads:
    """All threads on an idle machine, one on a busy one.

    Two threads that share a core with another program wait for each other at the end of every operation: measured on two cores, one
    foreign busy process cut two threads from 100 images a second to 5, while one thread alone still made 54.
    """

    def __init__(self, device: str) -> None:
        self.most = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
        self.single = float("inf")  # seconds a step takes one thread
        self.patience = 3.0  # seconds that the other cores must have been idle
        self.now, self.recent = 1, list[float]()
        self.began = self.stepped = time.perf_counter()
        self.idle = idle_seconds()
        self._use(min(self.most, 1))

    def step(self) -> None:
        """Call once after every training step."""
        now = time.perf_counter()
        spent, self.stepped = now - self.stepped, now
        if self.most == 1:
            return
        if self.now > 1:
            self.recent = [*self.recent[-4:], spent]
            # the median of five: one slow step is a checkpoint, not another program that wants the core
            if len(self.recent) == 5 and sorted(self.recent)[2] > 1.2 * self.single:
                self.patience = min(60.0, self.patience * 2)
                self._use(1)
            elif now - self.began > 60:
                self.patience = 3.0
        else:
            self.single = min(self.single, spent)
            if now - self.began > self.patience:
                idle = idle_seconds() - self.idle
                self._use(self.most if idle > 0.8 * (self.most - 1) * (now - self.began) else 1)

    def _use(self, count: int) -> None:
        torch.set_num_threads(count)
        self.now, self.recent = count, []
        self.began = self.stepped = time.perf_counter()
        self.idle = idle_seconds()


def idle_seconds() -> float:
    """Seconds, added up, that this machine's processors were idle or at the work of niced programs other than this one.

    A niced program may be at our own priority or below; Threads finds out by trying. 0 where the system does not say.
    """
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    own = time.process_time() if os.nice(0) > 0 else 0.0
    return int(fields[4]) / ticks + max(0.0, int(fields[2]) / ticks - own)
