"""Talks to a running ComfyUI as its frontend does: queue a prompt, wait, read outputs and errors."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Prompt = dict[str, dict[str, Any]]


class QueueError(Exception):
    """The server refused a prompt, or a node raised: `message` is what the user reads."""

    def __init__(self, message: str, details: Any):
        super().__init__(message)
        self.message, self.details = message, details


class Client:
    """One server; `base` is its folder of models, input and output."""

    def __init__(self, url: str, base: Path):
        self.url, self.base, self.id = url, base, uuid.uuid4().hex

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode("utf-8"))

    def post(self, path: str, value: Any) -> Any:
        data = json.dumps(value).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def submit(self, prompt: Prompt) -> str:
        """Queue a prompt and return its id; QueueError when it does not validate."""
        try:
            return str(self.post("/prompt", {"prompt": prompt, "client_id": self.id})["prompt_id"])
        except urllib.error.HTTPError as error:
            details = json.load(error)
            messages = [details["error"]["message"]]
            messages += [e["details"] for n in details.get("node_errors", {}).values() for e in n["errors"]]
            raise QueueError("; ".join(messages), details) from error

    def wait(self, prompt_id: str, seconds: float = 240) -> dict[str, Any]:
        """The outputs by node id once it is done; QueueError with a node's own message when one raised."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is None:
                time.sleep(0.1)
                continue
            for kind, message in entry["status"]["messages"]:
                if kind == "execution_error":
                    raise QueueError(message["exception_message"], message)
                if kind == "execution_interrupted":
                    raise QueueError("interrupted", message)
            return dict(entry["outputs"])
        raise TimeoutError(f"the prompt {prompt_id} took longer than {seconds} s")

    def run(self, prompt: Prompt, seconds: float = 240) -> dict[str, Any]:
        """Queue and wait."""
        return self.wait(self.submit(prompt), seconds)

    def images(self, outputs: dict[str, Any], node: str) -> list[np.ndarray]:
        """The pictures that a SaveImage or PreviewImage node wrote, [h, w, 3] uint8."""
        found = []
        for facts in outputs[node]["images"]:
            query = urllib.parse.urlencode({k: facts[k] for k in ("filename", "subfolder", "type")})
            with urllib.request.urlopen(f"{self.url}/view?{query}", timeout=60) as answer:
                found.append(np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB")))
        return found
