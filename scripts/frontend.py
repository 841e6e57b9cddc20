"""ComfyUI's real frontend in a headless Chromium: load graphs, export them, press Run, take pictures."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SIZE = {"width": 2200, "height": 1300}

TALL = """({ CLIPTextEncode: 110, MarkdownNote: 300, PreviewAny: 240, SaveImage: 400, PreviewImage: 400,
  ConceptEraser_AttributionMap: 600, ConceptEraser_Evaluation: 400, ConceptEraser_ErasureInfo: 240,
  ConceptEraser_EraseClosedForm: 560, ConceptEraser_AuditErasure: 760 })"""
# Makes one subgraph of each group's folded nodes. Its facts take the place of theirs; its slots say which picture they serve.
FOLD = """(graph, nodes) => {
  const ofPicture = (node) => (node.type === "VAEDecode" ? node.getInputNode(0) : node).title.replace("Draw: ", "");
  const base = (slot) => slot.name.replace(/_[0-9]+$/, "");
  const boxes = {};
  for (const [id, facts] of Object.entries(nodes)) if (facts.folded) (boxes[facts.group + facts.band] ??= []).push(+id);
  for (const ids of Object.values(boxes)) {
    const facts = nodes[ids[0]], items = ids.map((id) => graph.getNodeById(id)), rows = {};
    for (const node of items) {
      const { column, title } = nodes[node.id], row = (rows[column] = (rows[column] ?? -1) + 1);
      if (title) node.title = title;
      for (const w of node.widgets ?? []) if (w.name === "control_after_generate") w.value = "fixed";
      node.pos = [(column - facts.column) * 400, row * 320];
      delete nodes[node.id];
    }
    const { subgraph, node } = graph.convertToSubgraph(new Set(items));
    const inside = (id) => subgraph.getNodeById(id);
    for (const slot of subgraph.inputs) {
      const several = subgraph.inputs.filter((other) => base(other) === base(slot)).length > 1;
      const served = slot.linkIds.map((link) => ofPicture(inside(subgraph.getLink(link).target_id)));
      subgraph.renameInput(slot, several ? `${base(slot)}: ${served.join(", ")}` : base(slot));
    }
    for (const slot of subgraph.outputs)
      subgraph.renameOutput(slot, ofPicture(inside(subgraph.getLink(slot.linkIds[0]).origin_id)));
    subgraph.inputNode.pos = [-400, 0];
    subgraph.outputNode.pos = [760, 0];
    node.properties.proxyWidgets = [];
    subgraph.name = node.title = facts.group;
    nodes[node.id] = { ...facts, folded: false, title: facts.group, properties: {}, beside: "" };
  }
  return nodes;
}"""
# What `now` says once it has said the same three times: a look takes its time to measure nodes.
SETTLED = """async (now) => {
  for (let i = 0, same = 0, before = ""; i < 40 && same < 2; i++) {
    await new Promise((done) => setTimeout(done, 400));
    same = before === JSON.stringify(now()) ? same + 1 : 0;
    before = JSON.stringify(now());
  }
  return now();
}"""
# [[node id, height]] of a graph as it stands, the title without: what a look computes.
HEIGHTS = """async ([api, facts, name]) => {
  await app.loadApiJson(api, name);
  (FOLD)(app.graph, facts);
  return await (SETTLED)(() => app.graph.nodes.map((node) => [node.id, node.size[1]]));
}""".replace("FOLD", FOLD).replace("SETTLED", SETTLED)
EXPORT = """async ([api, name, facts, note, heights]) => {
  await app.loadApiJson(api, name);
  const nodes = (FOLD)(app.graph, facts);
  const graph = app.graph, gap = 80, title = 30, width = 340, across = 100, pad = 20;
  const tall = TALL;
  const first = Math.min(...Object.values(nodes).map((facts) => facts.column), 0);
  const bottoms = {}, boxes = {}, widths = { [first]: width }, left = {};
  for (const [id, { column }] of Object.entries(nodes))
    widths[column] = Math.max(width, widths[column] ?? 0, graph.getNodeById(+id).computeSize()[0]);
  let x = 0;
  for (const column of Object.keys(widths).map(Number).sort((a, b) => a - b)) {
    left[column] = x;
    x += widths[column] + across;
  }
  const place = (node, facts, least) => {
    const [w, h] = node.computeSize(), wants = Math.max(h, tall[node.type] ?? 0);
    node.setSize([Math.max(w, width), wants]);
    const y = Math.max(bottoms[facts.column] ?? 0, least);
    node.pos = [left[facts.column], y];
    bottoms[facts.column] = y + Math.max(wants, heights[node.id] ?? 0) + title + gap;
    const key = facts.group + facts.band, box = (boxes[key] ??= { title: facts.group, at: [1e9, 1e9, -1e9, -1e9] });
    box.at = [Math.min(box.at[0], node.pos[0]), Math.min(box.at[1], y - title),
              Math.max(box.at[2], node.pos[0] + node.size[0]), Math.max(box.at[3], bottoms[facts.column] - title - gap)];
  };
  const text = LiteGraph.createNode("MarkdownNote");
  graph.add(text);
  text.widgets[0].value = note;
  text.title = "Read me";
  const all = Object.entries(nodes);
  place(text, { column: first, group: "Start", band: 0 }, 0);
  for (const band of [...new Set(all.map(([, facts]) => facts.band))].sort()) {
    const own = all.filter(([, facts]) => facts.band === band);
    const columns = new Set(own.map(([, facts]) => facts.column));
    const top = band ? Math.max(...[...columns].map((c) => bottoms[c] ?? 0)) + title + 2 * pad : 0;
    for (const [id, facts] of own) {
      const node = graph.getNodeById(+id);
      if (facts.title) node.title = facts.title;
      Object.assign(node.properties, facts.properties);
      for (const w of node.widgets ?? []) if (w.name === "control_after_generate") w.value = "fixed";
      place(node, facts, Math.max(top, facts.beside ? graph.getNodeById(+facts.beside).pos[1] : 0));
    }
  }
  for (const box of Object.values(boxes)) {
    const group = new LiteGraph.LGraphGroup(box.title);
    group.pos = [box.at[0] - pad, box.at[1] - title - pad];
    group.size = [box.at[2] - box.at[0] + 2 * pad, box.at[3] - box.at[1] + title + 2 * pad];
    graph.add(group);
  }
  return JSON.stringify(graph.serialize());
}""".replace("TALL", TALL).replace("FOLD", FOLD)
LOOK = "async (on) => { await app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on); }"
# [[title, left, top, right, bottom]] of the nodes, their titles included, in this look.
RECTANGLES = """async () => await (SETTLED)(() =>
  app.graph.nodes.map((node) => [node.title, node.pos[0], node.pos[1] - 30,
                                 node.pos[0] + node.size[0], node.pos[1] + node.size[1]]))""".replace(
    "SETTLED", SETTLED
)
LOAD = "async (workflow) => { await app.loadGraphData(JSON.parse(workflow)); }"
FIT = """() => {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const node of app.graph.nodes) {
    box[0] = Math.min(box[0], node.pos[0]); box[1] = Math.min(box[1], node.pos[1] - 30);
    box[2] = Math.max(box[2], node.pos[0] + node.size[0]); box[3] = Math.max(box[3], node.pos[1] + node.size[1]);
  }
  for (const { pos: [x, y], size: [w, h] } of app.graph.groups) {
    box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
    box[2] = Math.max(box[2], x + w); box[3] = Math.max(box[3], y + h);
  }
  const ds = app.canvas.ds, [w, h] = [innerWidth - 120, innerHeight - 220];
  const [width, height] = [box[2] - box[0] + 40, box[3] - box[1] + 40];
  ds.scale = Math.min(1, w / width, h / height);
  ds.offset = [-box[0] + 20 + 80 / ds.scale, -box[1] + 20 + 160 / ds.scale];
  app.canvas.min_font_size_for_lod = 0;
  for (const note of document.querySelectorAll(".p-toast")) note.remove();
  app.canvas.setDirty(true, true);
  const corner = app.canvas.canvas.getBoundingClientRect();
  return [corner.left + 80, corner.top + 160, width * ds.scale, height * ds.scale];
}"""
ALONE = """async (type) => {
  app.graph.clear();
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.pos = [0, 0];
  node.setSize([Math.max(400, node.computeSize()[0]), node.computeSize()[1]]);
  const ds = app.canvas.ds;
  ds.scale = 1.25; ds.offset = [300, 190];
  app.canvas.deselectAll?.();
  app.canvas.setDirty(true, true);
  await new Promise((done) => setTimeout(done, 400));
  const corner = app.canvas.canvas.getBoundingClientRect();
  return [corner.left + (node.pos[0] + 300 - 12) * 1.25, corner.top + (node.pos[1] + 190 - 50) * 1.25,
          (node.size[0] + 24) * 1.25, (node.size[1] + 62) * 1.25];
}"""


def browser() -> str | None:
    """The path of an installed Chromium, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def page(url: str, query: str = "") -> Iterator[Any]:
    """The frontend at `url`, ready: every node type is registered."""
    from playwright.sync_api import sync_playwright

    settings = {
        "Comfy.TutorialCompleted": True,
        "Comfy.Workflow.ShowMissingModelsWarning": False,
        "Comfy.Minimap.Visible": False,
        "LiteGraph.Canvas.MinFontSizeForLOD": 0,
    }
    request = urllib.request.Request(url + "/settings", json.dumps(settings).encode(), method="POST")
    urllib.request.urlopen(request, timeout=30).close()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser(), args=FLAGS)
        try:
            shown = running.new_page(viewport=SIZE)
            _open(shown, url + query)
            yield shown
        finally:
            running.close()


def _open(shown: Any, url: str) -> None:
    shown.goto(url, timeout=120_000)
    shown.wait_for_function(
        "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 300", timeout=120_000
    )


@contextmanager
def another(shown: Any, url: str) -> Iterator[Any]:
    """A page in the same browser that remembers nothing of the first: 1.32's Nodes 2.0 keeps sizes of earlier graphs."""
    fresh = shown.context.browser.new_page(viewport=SIZE)
    try:
        _open(fresh, url)
        yield fresh
    finally:
        fresh.context.close()


def press_run(shown: Any, seconds: float = 300) -> None:
    """Click Run and wait until the server has done it; RuntimeError with the message when a node raised."""
    shown.evaluate(
        """async () => {
          window.ended = null;
          app.api.addEventListener("execution_success", () => { window.ended = "done"; });
          app.api.addEventListener("execution_error", (e) => { window.ended = e.detail.exception_message; });
        }"""
    )
    shown.get_by_role("button", name="Run", exact=True).first.click()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended = shown.evaluate("window.ended")
        if ended == "done":
            return
        if ended:
            raise RuntimeError(str(ended))
        shown.wait_for_timeout(200)
    raise RuntimeError(f"the graph did not end within {seconds:.0f} s")
