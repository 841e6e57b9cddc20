"""*Share Erasure*: a folder to upload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from PIL import Image

from .apply import erasure_combo
from .compare import as_pil, check_pictures
from .host import folders, schema
from .host.preview import say
from .host.schema import checked, node_schema


class ShareErasure(io.ComfyNode):
    """Writes an erasure with its picture, figures, card and workflow to a new folder below ComfyUI's output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "ShareErasure",
            "Share Erasure",
            "Writes a folder that is ready to upload: the erasure, a picture, its figures, a card that says what it is and "
            "how to use it, and a workflow. The hidden prompt is never in it.",
            [
                erasure_combo("erasure_name", "An erasure file from the LoRA folders."),
                io.String.Input(
                    "licence", default="", tooltip="The licence's identifier, such as apache-2.0 or openrail."
                ),
                io.String.Input("base", default="", tooltip="The base model's name, as people find it: OWNER/NAME."),
                io.String.Input("author", default="", tooltip="Who made it, as the card says it."),
                io.String.Input(
                    "folder_prefix",
                    default="shared/erasure",
                    tooltip="Where the folder is made, below ComfyUI's output folder. A number is added.",
                ),
                io.Image.Input(
                    "picture",
                    optional=True,
                    tooltip="The picture of the card, before and after: from Compare, for one.",
                ),
            ],
            [io.String.Output(display_name="path", tooltip="The folder, below ComfyUI's output folder.")],
            aliases=(*schema.ALIASES, "share", "publish", "upload", "model card"),
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, erasure_name: str = "", **_: Any) -> str:
        return folders.file_hash(folders.LORAS, erasure_name)

    @classmethod
    def validate_inputs(cls, erasure_name: str = "") -> bool | str:
        return True  # a missing file is explained by execute, with where to put it

    @classmethod
    @checked
    def execute(
        cls, erasure_name: str, licence: str, base: str, author: str, folder_prefix: str, picture: Any = None
    ) -> io.NodeOutput:
        from eraser_core.sharing.card import Wishes  # not at start: they bring all metrics along
        from eraser_core.sharing.share import share

        path = folders.find(folders.LORAS, erasure_name, cls.hidden)
        out = folders.new_file(folder_prefix).with_suffix("")
        wishes = Wishes(licence.strip(), base.strip(), author.strip())
        names = share(path, out, wishes, picture=None if picture is None else first_of(picture))
        said = str(out.relative_to(Path(folder_paths.get_output_directory())))
        text = f"{said}: {', '.join(names)}"
        say(text, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(said, ui=ui.PreviewText(text))


def first_of(pictures: Any) -> Image.Image:
    """The first picture of a batch [b, h, w, c]; RequestError where there is none."""
    return as_pil(check_pictures("picture", pictures)[0])
