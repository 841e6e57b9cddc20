"""Makes workflows/ (exported by the real frontend), their thumbnails from real runs, and the pictures of the help pages.

    python scripts/make_workflows.py export      # the JSON files
    python scripts/make_workflows.py run         # the same, and every graph is run: pictures and thumbnails (minutes)
    python scripts/make_workflows.py run NAME... # these graphs alone, with the files that an earlier run left
    python scripts/make_workflows.py nodes       # pictures of the nodes for their help pages
    python scripts/make_workflows.py modern      # pictures of the workflows in Nodes 2.0, as they are opened

Needs the test host (python scripts/comfyui_host.py install), playwright and Chromium. Everything it runs in lies in
.cache/comfyui/workflows.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import re
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO), str(REPO / "tests" / "host")]
from host_client import Client  # noqa: E402

from scripts import comfyui_host, frontend, workflow_graphs  # noqa: E402
from scripts.workflow_parts import EXAMPLE, Graph  # noqa: E402

log = logging.getLogger("make_workflows")
BASE = comfyui_host.CACHE / "workflows"
TARGET = REPO / "workflows"
EXAMPLES = REPO / "shared_examples"
DOCS = REPO / "docs" / "img"
HELP = REPO / "web" / "docs" / "img"
THUMBNAIL = 512
OWN = {"erase_from_your_checkpoint": "your checkpoint", "erase_with_flux": "your Flux"}
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def numbered(graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """(API prompt, facts for the layout) with numbers for ids."""
    ids = {name: str(i) for i, name in enumerate(graph.nodes, 1)}

    def value(given: Any) -> Any:
        return [ids[given[0]], given[1]] if isinstance(given, list) else given

    api, facts = {}, {}
    for name, node in graph.nodes.items():
        inputs = {key: value(given) for key, given in node["inputs"].items()}
        api[ids[name]] = {"class_type": node["class_type"], "inputs": inputs}
        facts[ids[name]] = {
            "column": graph.columns[name],
            "group": graph.groups[name],
            "band": graph.bands[name],
            "beside": ids.get(graph.beside.get(name, ""), ""),
            "folded": name in graph.folded,
            "title": graph.titles.get(name, ""),
            "properties": graph.properties.get(name, {}),
        }
    return api, facts


def digest() -> str:
    """SHA-256 of the erasure that the pack brings as an example."""
    return hashlib.sha256((EXAMPLES / "loras" / EXAMPLE).read_bytes()).hexdigest()


def export(shown: Any) -> None:
    """Write every workflow as the frontend serialises it."""
    TARGET.mkdir(exist_ok=True)
    graphs = workflow_graphs.all_graphs(digest())
    shown.evaluate(frontend.LOOK, True)
    heights = {name: dict(shown.evaluate(frontend.HEIGHTS, [*numbered(g), name])) for name, g in graphs.items()}
    shown.evaluate(frontend.LOOK, False)
    for name, graph in graphs.items():
        api, facts = numbered(graph)
        workflow = steady(shown.evaluate(frontend.EXPORT, [api, name, facts, graph.note, heights[name]]), name)
        workflow["extra"] = {"frontendVersion": workflow.get("extra", {}).get("frontendVersion", "")}
        (TARGET / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
    log.info("exported %d workflows", len(graphs))


def steady(text: str, name: str) -> dict[str, Any]:
    """The workflow with ids of subgraphs and their slots that are the same in every export; the frontend draws them."""
    for i, found in enumerate(found for found in dict.fromkeys(re.findall(UUID, text)) if found.strip("0-")):
        text = text.replace(found, str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{i}")))
    return dict(json.loads(text))


def run_graphs(shown: Any, client: Client, names: Sequence[str]) -> None:
    """Open every workflow (or those named), press Run, take its picture and make a thumbnail of the first result.

    Those for one's own checkpoint are not run: their thumbnail is a card, what they draw is up to the checkpoint.
    """
    for folder in () if names else ("loras", "hidden_prompts"):
        for path in (BASE / "output" / folder).glob("erased_*"):
            path.unlink()
    export(shown)
    DOCS.mkdir(parents=True, exist_ok=True)
    for name, graph in workflow_graphs.all_graphs().items():
        if names and name not in names:
            continue
        api, _ = numbered(graph)
        if name in OWN:
            card(OWN[name], TARGET / f"{name}.jpg")
            continue
        text = (TARGET / f"{name}.json").read_text(encoding="utf-8")
        shown.evaluate(frontend.LOAD, text)
        frontend.press_run(shown, 1800)
        picture_graph(shown, DOCS / f"workflow_{name}.jpg")
        outputs = max(client.get("/history").values(), key=lambda entry: entry["prompt"][0])["outputs"]
        with_pictures = [node for node in api if outputs.get(node, {}).get("images")]
        thumbnail(client, outputs, with_pictures[0], TARGET / f"{name}.jpg")
        log.info("ran %s", name)


def picture_graph(shown: Any, path: Path, quality: int = 80) -> None:
    """A JPEG of the whole graph as it stands, with its results."""
    x, y, width, height = shown.evaluate(frontend.FIT)
    shown.wait_for_timeout(1500)
    data = shown.screenshot(clip={"x": x, "y": y, "width": width, "height": height})
    Image.open(io.BytesIO(data)).convert("RGB").save(path, quality=quality)


def picture_modern(shown: Any, url: str) -> None:
    """A JPEG of every workflow in Nodes 2.0, each in a page of its own."""
    shown.evaluate(frontend.LOOK, True)
    for path in sorted(TARGET.glob("*.json")):
        with frontend.another(shown, url) as fresh:
            fresh.evaluate(frontend.LOAD, path.read_text(encoding="utf-8"))
            fresh.evaluate(frontend.RECTANGLES)
            picture_graph(fresh, DOCS / f"modern_{path.stem}.jpg", 60)
    shown.evaluate(frontend.LOOK, False)


def thumbnail(client: Client, outputs: dict[str, Any], node: str, path: Path) -> None:
    """A JPEG of one output, enlarged without blur where it is small."""
    image = Image.fromarray(client.images(outputs, node)[0])
    scale = THUMBNAIL / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (THUMBNAIL, THUMBNAIL), "white")
    sheet.paste(image, ((THUMBNAIL - image.width) // 2, (THUMBNAIL - image.height) // 2))
    sheet.save(path, quality=88)


def card(words: str, path: Path) -> None:
    """A thumbnail that shows words alone."""
    sheet = Image.new("RGB", (THUMBNAIL, THUMBNAIL), "#353535")
    font = ImageFont.load_default(size=THUMBNAIL // 10)
    ImageDraw.Draw(sheet).text((THUMBNAIL // 2, THUMBNAIL // 2), words, "white", font, anchor="mm")
    sheet.save(path, quality=88)


def picture_nodes(shown: Any) -> None:
    """A screenshot of every node for its help page."""
    HELP.mkdir(parents=True, exist_ok=True)
    kinds = shown.evaluate("Object.keys(LiteGraph.registered_node_types)")
    for kind in (kind for kind in kinds if kind.startswith("ConceptEraser_")):
        x, y, width, height = shown.evaluate(frontend.ALONE, kind)
        clip = {"x": max(x, 0), "y": max(y, 0), "width": width, "height": height}
        save_png(shown.screenshot(clip=clip), HELP / f"{kind.removeprefix('ConceptEraser_')}.png")


def save_png(data: bytes, path: Path) -> None:
    """A PNG with a palette: a third of the size."""
    Image.open(io.BytesIO(data)).convert("RGB").quantize(128).save(path, optimize=True)


def main() -> int:
    """The command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("export", "run", "nodes", "modern"))
    parser.add_argument("names", nargs="*", help="with run: these workflows alone", metavar="NAME")
    parser.add_argument(
        "--frontend",
        help="the folder `static` of another comfyui-frontend-package (for `modern`: early versions of Nodes 2.0 leave the "
        "groups behind when they move nodes apart)",
        metavar="DIR",
    )
    args = parser.parse_args()
    BASE.mkdir(parents=True, exist_ok=True)
    arguments = ["--cpu", *comfyui_host.isolated_arguments()]
    arguments += ["--front-end-root", args.frontend] if args.frontend else []
    with (BASE / "host.log").open("w") as output, comfyui_host.Host(BASE, arguments=arguments, output=output) as host:
        host.wait_ready()
        with frontend.page(host.url) as shown:
            if args.command == "run":
                run_graphs(shown, Client(host.url, BASE), args.names)
            elif args.command == "modern":
                picture_modern(shown, host.url)
            else:
                {"export": export, "nodes": picture_nodes}[args.command](shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
