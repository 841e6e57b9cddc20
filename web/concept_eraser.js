// What the nodes cannot say through ComfyUI's Python interface: one setting, and what is missing when a graph is opened.
import { app } from "../../scripts/app.js";

const MISSING = "which is not installed";

app.registerExtension({
  name: "ConceptEraser",
  settings: [
    {
      id: "ConceptEraser.ShowPocketModel",
      category: ["Concept Eraser", "Pocket model", "ShowPocketModel"],
      name: "List the pocket model among the checkpoints",
      tooltip: "Takes effect when ComfyUI is started again.",
      type: "boolean",
      defaultValue: true,
    },
  ],
  loadedGraphNode(node) {
    if (node.type !== "ConceptEraser_NudeNetScore") return;
    const said = node.constructor?.nodeData?.description ?? "";
    if (!said.includes(MISSING)) return;
    app.extensionManager.toast.add({
      severity: "warn",
      summary: "NudeNet Score",
      detail: said.slice(said.indexOf("NudeNet Score needs")),
      life: 30000,
    });
  },
});
