"""From what a user calls a model to the model on disk."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from .checkpoint import open_checkpoint
from .folder import PARTS, open_folder
from .stored_model import Loading, StoredModel
from .transformer_folder import CLOSED_FORMS, INDEX, refuse_to_draw

_WANTED = ("*.json", "*.txt", "*.safetensors")
_FOLDERS = (*PARTS, "text_encoder_2", "tokenizer_2")


def find_model(name: str, loading: Loading, allow_download: bool = False) -> StoredModel:
    """A `.safetensors` checkpoint or a folder in diffusers' layout; with `allow_download` also OWNER/NAME on the hub.

    ModelError or FileFormatError says what is wrong with it. Nothing is fetched unless it is allowed.
    """
    path = Path(name)
    if path.is_dir():
        refuse_to_draw(path)
        return open_folder(path, loading)
    if path.is_file():
        return open_checkpoint(path, loading)
    if not allow_download:
        raise ModelError(
            f"there is no model {name!r}: give `pocket`, a .safetensors checkpoint, a model folder in diffusers' layout, "
            "or OWNER/NAME together with --allow-download"
        )
    return open_folder(_fetched(name), loading)


def _fetched(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"{folder}/{wanted}" for folder in _FOLDERS for wanted in _WANTED]
    try:
        _refuse_transformer(name, Path(snapshot_download(name, allow_patterns=[INDEX])) / INDEX)
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*.fp16.*", "*.non_ema.*"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        said = str(error).split("\n")[0]
        raise ModelError(f"{name!r} cannot be fetched ({said}): check its name, or give a file on your disk") from error


def _refuse_transformer(name: str, index: Path) -> None:
    """ModelError before gigabytes of a model are fetched that is erased from as a folder alone."""
    if index.is_file() and '"transformer"' in index.read_text(encoding="utf-8"):
        raise ModelError(
            f"{name!r} is a transformer, which is not fetched here: fetch its folder yourself, and give that to `erase` with "
            f"--method {CLOSED_FORMS}"
        )
