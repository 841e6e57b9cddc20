"""Where the demo's time goes, phase by phase, and how far each phase is from what the machine could do.

    python benchmarks/demo_time.py             # runs the demo; prints and keeps the table
    python benchmarks/demo_time.py --smoke     # a few steps and pictures

`floor` is what the phase's rows would take at the speed of a large matrix product on this machine: a forward row of the
pocket UNet is 0.79 GFLOP, a row with gradient counts as three. Rows in out/benchmarks/demo_time.json. Nothing else
should run beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import common
import torch

GFLOP_A_ROW = 0.79
PHASES = ("fill", "train", "draw", "score")


def gflops(size: int = 2048, times: int = 5) -> float:
    """GFLOP a second of a large fp32 matrix product, the best of several."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = min(common.timed(lambda: a @ b)[1] for _ in range(times))
    return 2 * size**3 / best / 1e9


def main() -> int:
    """Run the demo as a user does, then print its seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few steps and pictures")
    args = parser.parse_args()
    out = Path("out/demo_time")
    command = [sys.executable, "scripts/demo.py", "--out", str(out)]
    command += ["--iterations", "2", "--images", "4"] if args.smoke else []
    speed, began = gflops(), time.monotonic()
    subprocess.run(command, check=True)
    total = time.monotonic() - began
    seconds = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["seconds"]
    rows = common.Rows("demo_time_smoke" if args.smoke else "demo_time", ("task", "phase"), fresh=True)
    for task, spent in seconds.items():
        for phase in PHASES if isinstance(spent, dict) else ():
            count = spent[f"{phase}_rows"]
            floor = count * GFLOP_A_ROW / speed
            rows.add(
                {"task": task, "phase": phase, "seconds": spent[phase], "rows": count, "floor": floor}
                | {"ms_a_row": 1000 * spent[phase] / max(count, 1), "machine": common.machine()}
            )
    columns = ("task", "phase", "seconds", "rows", "ms_a_row", "floor")
    first = seconds["load"] + sum(next(iter(v for v in seconds.values() if isinstance(v, dict)))[p] for p in PHASES[:3])
    text = common.table(rows.rows, columns)
    text += (
        f"\nfirst picture {first:.0f} s, all {total:.0f} s; a large matrix product here: {speed:.0f} GFLOP a second\n"
    )
    common.show(rows.path.stem, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
