"""Fetch the openly licensed emoji packages and render every object in every style at 64 px, in three sizes.

    python scripts/pocket/data.py --work out/pocket

Writes ``drawings.npz`` (``images``: uint8 [objects, styles, sizes, 64, 64, 3]) and ``drawings.json`` (who is who) to the work folder.
The npm command fetches the packages; nothing else touches the network.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image, ImageEnhance

log = logging.getLogger("pocket.data")

STYLES = ("ink", "clay", "twemoji", "blob", "fluent", "pixel")
# Versions are pinned: another version of a drawing is another data set.
PACKAGES = {
    "emojibase-data": "17.0.0",
    "@iconify-json/fluent-emoji-high-contrast": "1.2.6",
    "@lobehub/fluent-emoji-3d": "1.1.0",
    "@iconify-json/twemoji": "1.2.5",
    "@iconify-json/noto-v1": "1.2.5",
    "@iconify-json/noto": "1.2.9",
    "@iconify-json/fluent-emoji-flat": "1.2.6",
}
ICON_PACKAGE = {
    "ink": "@iconify-json/fluent-emoji-high-contrast",
    "twemoji": "@iconify-json/twemoji",
    "blob": "@iconify-json/noto-v1",
    "fluent": "@iconify-json/fluent-emoji-flat",
    "pixel": "@iconify-json/noto",
}
GROUPS = (3, 4, 5, 6, 7)  # animals, food, places, activities, objects: no people, smileys, symbols, flags
SIZE = 64
RENDER = 192  # three times the drawing: edges are averaged down, so every style is anti-aliased the same way
# The first size is the drawing itself (a 6 % margin); the smaller ones are rendered anew from the source, so that training never has to
# resample a drawing, which would blur ink lines and the pixel grid.
MARGINS = (0.06, 0.10, 0.14)


@dataclass(frozen=True)
class IconSet:
    """One iconify package: SVG bodies by name, and names by code point."""

    icons: dict[str, dict[str, Any]]
    aliases: dict[str, dict[str, Any]]
    chars: dict[str, str]
    width: int
    height: int

    def svg(self, name: str) -> str | None:
        """SVG text of an icon, or None. An alias that turns or flips its parent is passed over: none of our objects needs one."""
        if name not in self.icons and name in self.aliases:
            name = self.aliases[name]["parent"]
        icon = self.icons.get(name)
        if icon is None:
            return None
        width, height = icon.get("width", self.width), icon.get("height", self.height)
        body = icon["body"]
        head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#000000"'
        return f'{head} width="{width}" height="{height}" viewBox="0 0 {width} {height}">{body}</svg>'


def plain(hexcode: str) -> str:
    """Code points in lower case without the variation selector, which packages write or leave out as they like."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def fetch(folder: Path) -> None:
    """Download and unpack the pinned packages that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, version in PACKAGES.items():
        target = folder / name.replace("@", "").replace("/", "-")
        if (target / "package.json").exists():
            continue
        log.info("fetching %s %s", name, version)
        done = subprocess.run(
            ["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, capture_output=True, text=True
        )
        with tarfile.open(folder / done.stdout.strip().splitlines()[-1]) as archive:
            for member in archive.getmembers():
                member.name = member.name.partition("/")[2]  # npm packs everything under "package/"
                if member.name:
                    archive.extract(member, target, filter="data")


def package_folder(folder: Path, name: str) -> Path:
    return folder / name.replace("@", "").replace("/", "-")


def read_icons(folder: Path, name: str) -> IconSet:
    where = package_folder(folder, name)
    icons = json.loads((where / "icons.json").read_text(encoding="utf-8"))
    chars_file = where / "chars.json"
    chars = json.loads(chars_file.read_text(encoding="utf-8")) if chars_file.exists() else {}
    side = icons.get("width", 128)
    return IconSet(
        icons["icons"],
        icons.get("aliases", {}),
        {plain(k): v for k, v in chars.items()},
        side,
        icons.get("height", side),
    )


def fit(image: Image.Image, size: int, margin: float) -> Image.Image:
    """Crop an RGBA picture to its ink and fit it, centred, with a margin, on white. The aspect ratio is kept."""
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        raise ValueError("an empty drawing")
    ink = image.crop(box)
    side = size * (1 - 2 * margin) / max(ink.size)
    shape = (max(1, round(ink.width * side)), max(1, round(ink.height * side)))
    ink = ink.resize(shape, Image.Resampling.BOX if side < 1 else Image.Resampling.LANCZOS)
    page = Image.new("RGBA", (size, size), (255, 255, 255, 255))
    page.alpha_composite(ink, ((size - shape[0]) // 2, (size - shape[1]) // 2))
    return page.convert("RGB")


def pixelate(image: Image.Image, margin: float) -> Image.Image:
    """16x16 pixels in 12 colours. Averaging pales a drawing, so contrast and colour are raised first."""
    small = fit(image, 16, margin)
    small = ImageEnhance.Color(ImageEnhance.Contrast(small).enhance(1.35)).enhance(1.35)
    small = small.quantize(12, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")
    return small.resize((SIZE, SIZE), Image.Resampling.NEAREST)


def render(svg: str) -> Image.Image:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=RENDER, height=RENDER, skip_system_fonts=True)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def source(code: str, style: str, sets: dict[str, IconSet], clay: dict[str, Path]) -> Image.Image | None:
    """The RGBA drawing of one emoji in one style at its full size, or None when the style lacks it."""
    if style == "clay":
        return Image.open(clay[code]).convert("RGBA") if code in clay else None
    # noto-v1 ships no code points of its own; its names are noto's
    name = sets["pixel" if style == "blob" else style].chars.get(code)
    svg = sets[style].svg(name) if name else None
    return render(svg) if svg else None


def draw(code: str, sets: dict[str, IconSet], clay: dict[str, Path]) -> np.ndarray | None:
    """uint8 [styles, sizes, 64, 64, 3] of one emoji, or None when a style lacks it."""
    pages: list[np.ndarray] = []
    for style in STYLES:
        image = source(code, style, sets, clay)
        if image is None:
            return None
        shrink = pixelate if style == "pixel" else lambda page, margin: fit(page, SIZE, margin)
        pages.append(np.stack([np.asarray(shrink(image, margin)) for margin in MARGINS]))
    return np.stack(pages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("out/pocket"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    started = time.monotonic()
    packages = args.work / "packages"
    fetch(packages)
    sets = {style: read_icons(packages, name) for style, name in ICON_PACKAGE.items()}
    assets = package_folder(packages, "@lobehub/fluent-emoji-3d") / "assets"
    clay = {plain(path.stem): path for path in sorted(assets.glob("*.webp"))}
    names = json.loads((package_folder(packages, "emojibase-data") / "en" / "data.json").read_text(encoding="utf-8"))

    entries, images = [], []
    for emoji in names:
        label = emoji["label"]
        clock = "o\u2019clock" in label or label.endswith("-thirty")  # 24 faces of one clock teach nothing
        if emoji.get("group") not in GROUPS or clock:
            continue
        pages = draw(plain(emoji["hexcode"]), sets, clay)
        if pages is None:
            continue
        images.append(pages)
        entries.append({"code": plain(emoji["hexcode"]), "label": label, "group": emoji["group"]})
    np.savez_compressed(args.work / "drawings.npz", images=np.stack(images))
    index = {"styles": STYLES, "packages": PACKAGES, "objects": entries}
    (args.work / "drawings.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    log.info("%d objects in %d styles, %.0f s", len(entries), len(STYLES), time.monotonic() - started)


if __name__ == "__main__":
    main()
