"""What other programs read in the header of an erasure: Stability's ModelSpec, and kohya's `ss_*` entries.

LoRA managers tell a file's family by `modelspec.architecture` and `ss_base_model_version`; A1111 by the latter and `ss_v2`.
The words are those that kohya's sd-scripts writes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from PIL import Image

SPEC = "1.0.0"
THUMBNAIL, QUALITY = 256, 80  # pixels a side, as the specification recommends; of the JPEG
MOST_NAMED = 20  # concepts in a title: programs show it in a line
USAGE = "modelspec.usage_hint"
COMFYUI = "https://github.com/comfyanonymous/ComfyUI"  # whose names the entries' keys have

POCKET = "concepteraser-pocket"  # the architecture that the pocket model's checkpoint names
POCKET_FLOW = "concepteraser-pocket-flow"
SHIPPED = {POCKET: "pocket", POCKET_FLOW: "pocket-flow"}
# by family and prediction: architecture, resolution, kohya's word for the base
_FAMILIES = {
    ("sd1", "epsilon"): ("stable-diffusion-v1", "512x512", "sd_v1"),
    ("sd1", "v"): ("stable-diffusion-v1", "512x512", "sd_v1_v"),
    ("sd2", "epsilon"): ("stable-diffusion-v2-512", "512x512", "sd_v2"),
    ("sd2", "v"): ("stable-diffusion-v2-768-v", "768x768", "sd_v2_v"),
    ("sdxl", "epsilon"): ("stable-diffusion-xl-v1-base", "1024x1024", "sdxl_base_v1-0"),
    ("sdxl", "v"): ("stable-diffusion-xl-v1-base", "1024x1024", "sdxl_base_v1-0"),
    ("pocket", "epsilon"): (POCKET, "64x64", ""),
    ("pocket-flow", "flow"): (POCKET_FLOW, "64x64", ""),
}


def family_facts(family: str, prediction: str) -> dict[str, str]:
    """The entries by which programs tell what a file is for; of an unknown family only its own name."""
    architecture, resolution, base = _FAMILIES.get((family, prediction), (family, "", ""))
    facts = {
        "modelspec.sai_model_spec": SPEC,
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": COMFYUI,
    }
    if resolution:
        facts["modelspec.resolution"] = resolution
    if base:
        facts |= {"ss_base_model_version": base, "ss_v2": str(family == "sd2")}
    return facts


def network_facts(ranks: Sequence[tuple[int, float] | None]) -> dict[str, str]:
    """kohya's entries for low-rank factors, where they are true of all: (rank, alpha) a weight, None a dense change."""
    sizes = set(ranks)
    if not sizes or None in sizes:
        return {}
    facts = {"ss_network_module": "networks.lora"}
    if len(sizes) == 1 and (size := sizes.pop()) is not None:
        facts |= {"ss_network_dim": str(size[0]), "ss_network_alpha": str(float(size[1]))}
    return facts


def now() -> str:
    """ISO 8601, in UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def made_facts(targets: Sequence[tuple[str, str]], method: str) -> dict[str, str]:
    """What is said of a fresh erasure of (concept, anchor) pairs: title, description, tags, date."""
    names = [concept for concept, _ in targets]
    said = [f"{concept} (drawn instead: {anchor or 'nothing in particular'})" for concept, anchor in targets]
    return {
        "modelspec.title": "erased: " + _some(names),
        "modelspec.description": f"Hides {_some(said)}. Made by ConceptEraser, method {method}. Whoever leaves this "
        "file out has the original model.",
        "modelspec.tags": ", ".join(
            dict.fromkeys(["concept-erasure", method, *(n.replace(",", " ") for n in names[:MOST_NAMED])])
        ),
        "modelspec.date": now(),
    }


def _some(words: Sequence[str]) -> str:
    """The first of a long list, and how many more there are."""
    more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return ", ".join(words[:MOST_NAMED]) + more


def thumbnail(picture: Image.Image) -> str:
    """The middle square of a picture as a small JPEG in a data URI."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("RGB").crop((left, top, left + side, top + side))
    square.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def without_hashes(
    metadata: Mapping[str, str], prefixes: Iterable[str] = ("modelspec.hash_", "sshs_")
) -> dict[str, str]:
    """Metadata of a file whose tensors were changed: the hashes of the old ones go."""
    return {key: value for key, value in metadata.items() if not key.startswith(tuple(prefixes))}
