"""What the pack adds to ComfyUI's start: seconds, and modules that it imports first.

python benchmarks/import_time.py            # needs the test host: python scripts/comfyui_host.py install
python -X importtime benchmarks/import_time.py 2> importtime.txt    # every module's own time
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO), str(REPO / "tests" / "host")]
import in_process  # noqa: E402

# heavy, and needed only when a node runs that uses them
LATE = ("diffusers", "transformers", "nudenet", "onnxruntime", "cv2", "torchvision", "scipy", "matplotlib")
log = logging.getLogger("import_time")


def measure() -> dict[str, object]:
    """Processor and wall seconds of the pack's import in a host that is up, and what it drew in."""
    with tempfile.TemporaryDirectory() as folder:
        in_process.load_host(Path(folder))
        import server  # noqa: F401 (both are up in a host before it turns to custom nodes)

        before = set(sys.modules)
        wall, processor = time.perf_counter(), time.process_time()
        in_process.load_pack()
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    return {
        "processor_seconds": round(processor, 3),
        "wall_seconds": round(wall, 3),
        "heavy_modules": sorted(new & set(LATE)),
        "new_packages": sorted(new),
    }


def main() -> int:
    """Print the figures as JSON."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdout.write(json.dumps(measure(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
