"""Writes locales/en/nodeDefs.json from the running nodes' own words, so that translators have one file to copy.

python scripts/make_locale.py            # needs the test host: python scripts/comfyui_host.py install
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO), str(REPO / "tests" / "host")]
import in_process  # noqa: E402

TARGET = REPO / "locales" / "en" / "nodeDefs.json"


def words(node: type) -> tuple[str, dict[str, Any]]:
    """(node id, its entry): names and tooltips of the node, its inputs and outputs."""
    schema = node.GET_SCHEMA()  # type: ignore[attr-defined]
    entry: dict[str, Any] = {"display_name": schema.display_name, "description": schema.description}
    entry["inputs"] = {
        i.id: {"name": i.display_name or i.id} | ({"tooltip": i.tooltip} if i.tooltip else {}) for i in schema.inputs
    }
    entry["outputs"] = {
        str(n): {"name": o.display_name} | ({"tooltip": o.tooltip} if o.tooltip else {})
        for n, o in enumerate(schema.outputs)
    }
    return schema.node_id, entry


def locale() -> dict[str, Any]:
    """All nodes' entries, by id."""
    with tempfile.TemporaryDirectory() as folder:
        in_process.load_host(Path(folder))
        in_process.load_pack()
        from concept_eraser_pack.nodes.registry import all_nodes

        return dict(words(node) for node in all_nodes())


def main() -> int:
    """Write the file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(locale(), indent=2) + "\n", encoding="utf-8")
    logging.info("written: %s", TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
