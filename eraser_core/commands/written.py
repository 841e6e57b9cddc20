"""What a run of `erase` writes: the erasure, the hidden prompt, the figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..erasing import Erased
from ..files import peak_memory, size_said, write_json
from ..hidden_prompt import save_prompts
from . import folder

log = logging.getLogger(__name__)


def write(to: folder.Results, replaces: Sequence[str], result: Erased) -> None:
    """The two files and the figures, in place of those of an earlier run, whose concepts had the names `replaces`."""
    # The checkpoint goes last: until both files are whole, a killed run goes on from it to the same two files.
    folder.replace_erasure(to, result.erasure, replaces)
    if result.prompts and result.key_seed is not None:
        made = result.erasure
        facts = {"hidden_prompt.family": made.family, "hidden_prompt.base_hash": made.base_hash}
        save_prompts(to.prompt, result.prompts, result.key_seed, made.hash(), facts)
    else:
        to.prompt.unlink(missing_ok=True)  # an earlier run's
    folder.remove_earlier(to, replaces)
    (to.out / folder.CHECKPOINT).unlink(missing_ok=True)
    write_metrics(to, result, [])
    log.info("written: %s, to share or use (%s)", to.erasure, size_said(to.erasure.stat().st_size))
    if result.prompts:
        log.info("written: %s, private: it brings the concept back", to.prompt)


def write_metrics(to: folder.Results, result: Erased, rows: Sequence[dict[str, Any]]) -> None:
    """What the run took, and a row of figures a concept."""
    metrics = {
        "targets": list(rows),
        "erase_seconds": result.seconds,
        "forward_rows": {"with_gradient": result.rows.grad, "without_gradient": result.rows.no_grad},
        "peak_memory_bytes": peak_memory(),
        "losses": list(result.losses),
    }
    write_json(to.out / folder.METRICS, metrics)
