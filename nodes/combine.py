"""*Combine Erasures*: several erasures in one file, and the rest stays."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from eraser_core.erasure import Erasure
from eraser_core.errors import RequestError

from . import request_inputs
from .apply import load_listed
from .host import model as host_model
from .host import schema
from .host.preview import say
from .host.schema import checked, field, node_schema
from .host.unloaded import UnloadedDenoiser

SOCKETS = 8


class CombineErasures(io.ComfyNode):
    """Solves for one erasure that does to each concept what its own file did, and to the rest nothing."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            "CombineErasures",
            "Combine Erasures",
            "Makes one erasure of several, in seconds and without training. Erasures that are stacked one after the other "
            "harm what none of them erases; the combined one leaves it as it is. Saves the file in output/loras.",
            _inputs(),
            [
                io.Model.Output(display_name="MODEL", tooltip="The model with the combined erasure."),
                schema.Erasure.Output(display_name="CONCEPT_ERASURE", tooltip="The combined erasure."),
                schema.LoraModel.Output(display_name="LORA_MODEL", tooltip="The same tensors for core LoRA nodes."),
            ],
            aliases=(*schema.ALIASES, "combine", "merge", "many", "opt out", "stack"),
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    @checked
    def execute(cls, model: Any, clip: Any, erasure_names: str, filename_prefix: str, **values: Any) -> io.NodeOutput:
        from eraser_core.precision import DTYPES  # not at start: torch's types and pydantic cost the host's start

        from .combine_run import combined

        names = [line.strip() for line in erasure_names.splitlines() if line.strip()]
        given: list[tuple[str, Erasure]] = [(name, load_listed(name, cls.hidden)) for name in names]
        for i in range(1, SOCKETS + 1):
            erasure = values.get(f"erasure_{i}")
            if erasure is not None:
                given.append((f"erasure_{i}", erasure))
        if len(given) < 2:
            raise RequestError("connect two erasures at least, or write the names of their files, one a line")
        with torch.inference_mode(False), torch.no_grad():
            denoiser = UnloadedDenoiser(model, clip)
            dtype = DTYPES[values["precision"]]
            erasure, path, text = combined(denoiser, given, values["kept"], dtype, filename_prefix)
            applied = host_model.apply_erasure(model, erasure, 1.0, path.name)
        say(text, str(cls.hidden.unique_id or ""))
        return io.NodeOutput(applied, erasure, erasure.tensors(), ui={"text": (text,)})


def _inputs() -> list[Any]:
    return [
        *request_inputs.network(),
        io.String.Input(
            "erasure_names",
            multiline=True,
            default="",
            tooltip="Erasure files from the LoRA folders, one a line; beside those from the sockets.",
        ),
        field(
            io.Float.Input,
            "kept",
            default=3.0,
            min=0.1,
            max=100.0,
            step=0.5,
            tooltip="Weight of what is kept, in times of all concepts together. More keeps more and erases less.",
            advanced=True,
        ),
        request_inputs.precision(),
        request_inputs.filename_prefix(),
        *(
            schema.Erasure.Input(f"erasure_{i}", optional=True, tooltip="From Load Erasure or from a node that erases.")
            for i in range(1, SOCKETS + 1)
        ),
    ]
