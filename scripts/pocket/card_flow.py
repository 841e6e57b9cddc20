"""The card of the flow-matching model: what it shares with the first model is said in that one's card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from card import percent, table

ASKED = 0.90  # object right over all pairs


def write_flow_card(path: Path, model: dict[str, Any], result: dict[str, Any]) -> None:
    """Write CARD_FLOW.md."""
    made, sampling, main = model["training"]["transformer"], result["sampling"], result["rows"]["all pairs"]
    rows = [
        [name, str(r["n"]), percent(r.get("object")), percent(r.get("style"))] for name, r in result["rows"].items()
    ]
    styles = [[s, percent(v["object"]), percent(v["style"])] for s, v in result["by_style"].items()]
    weakest = ", ".join(f"{name} {value:.2f}" for name, value in list(result["by_object"].items())[:10])
    mistakes = ", ".join(f"{text} ({n})" for text, n in list(result["object_mistakes"].items())[:8])
    sweep = [
        [f"{t['guidance']:g}", str(t["steps"]), str(t["n"]), percent(t["object"]), percent(t["style"])]
        for t in model.get("sweep", [])
    ]
    chosen = table(["guidance", "steps", "n", "object right", "style right"], sweep) if sweep else ""
    verdict = "reached" if main["object"] >= ASKED else "**not reached**"
    shape = model["transformer"]
    text = f"""# Model card: the flow-matching pocket model

A transformer trained by flow matching, of the class that Lumina 2 and Z-Image have (NextDiT): {shape["num_layers"]} joint blocks, one block each for text
and picture alone, width {shape["hidden_size"]}, patches of {shape["patch_size"]}x{shape["patch_size"]} latents. It draws what the first pocket model draws, so that erasing from such models can be
tried and measured on a CPU. Text encoder, autoencoder, vocabulary, drawings, captions, held-out pairs and judge are the first model's: CARD.md.
This file is written by `scripts/pocket/evaluate.py`.

## Figures

Drawn with Euler's method, guidance {sampling["guidance"]:g}, {sampling["steps"]} steps on the model's own grid (shift {model["schedule"]["shift"]:g}); judged by the shipped judge. Prompts are templates
that were never captions; every picture has its own noise; seeds a pair in the first row: {result["seeds"]}.

- Object right over all pairs: **{main["object"]:.3f}** (n = {main["n"]}); asked for: {ASKED:.2f}; {verdict}.

{table(["row", "n", "object right", "style right"], rows)}

Of the first row, by style:

{table(["style", "object right", "style right"], styles)}

- Weakest objects: {weakest}.
- Commonest wrong objects: {mistakes}.
- What the rows mean is said in CARD.md.

## How it was made

- {made["seen"]} of {made["planned"]} planned images seen, {made["hours"]:.2f} hours on one thread of a shared CPU, {made["precision"]}, seed {made["seed"]}; the planned number was changed at restarts,
  which bent the learning rate's cosine a little.
- The target of a training row is not one drawing's eps - x_0 but its mean over all drawings that fit the caption, weighted by how likely each is to
  have led to z_s. The drawings are few enough to work that out exactly (`scripts/pocket/train_flow.py`).
- Every drawing was shown in three sizes and two directions. Matrices inside the blocks were trained by Muon, the rest by AdamW; the weights are an average.
- The text encoder and the autoencoder were not trained further.

{chosen}

- Evaluated in {result["minutes"]} minutes on {result["processor"]}.
- SHA-256 over the tensors (names and numbers): {result["tensor_sha256"]}.

## Licences

As the first model's: CARD.md and NOTICE.md.
"""
    path.write_text(text, encoding="utf-8")
