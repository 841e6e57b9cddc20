"""The words that stand over a benchmark's columns. JSON rows keep their keys; docs/README.md explains every heading."""

from __future__ import annotations

from typing import Any

# A key that is a plain word already is its own heading.
HEADINGS = {
    "variant": "setting",
    "concept": "erased concept",
    "retain_set": "retain set",
    # what is erased and kept
    "esr1": "erased (ESR-1)",
    "esr5": "erased (ESR-5)",
    "esr1_synonym": "erased, by a synonym",
    "interference": "erased less than singly",
    "psr1": "others right (PSR-1)",
    "psr1_before": "others right, untouched",
    "psr5": "others right (PSR-5)",
    "psr1_lookalike": "look-alikes right",
    "psr1_lookalike_before": "look-alikes right, untouched",
    "psr1_retained": "retained right",
    "kept1": "others right, named to nobody",
    "retained1": "retained right",
    "kept_style": "the style that is kept",
    "style1": "the kept style right",
    # what brings the concept back
    "recovery1": "drawn with the hidden prompt",
    "recovery1_both": "the same, in both halves",
    "forged1": "drawn with a random prompt",
    "forged_other1": "drawn with another concept's prompt",
    "kept_with_p1": "other prompts right, hidden prompt added",
    "kept_with_p1_both": "other prompts right, in both halves",
    "learnt1": "learnt again",
    "learnt1_strong": "learnt again, strong attack",
    "read1": "drawn with a prompt read from the weights",
    "same3": "same prompt with the anchor, guidance 3",
    "same6": "same prompt with the anchor, guidance 6",
    "alone3": "the anchor alone, guidance 3",
    "alone6": "the anchor alone, guidance 6",
    # what it costs
    "latents": "half-drawn pictures",
    "preserved": "concepts kept",
    "rows": "forward rows",
    "rows_nograd": "rows without gradient",
    "rows_grad": "rows with gradient",
    "pool_seconds": "seconds of one denoising",
    "solve_s": "seconds without the texts",
    "text_s": "seconds of reading texts",
    "peak_bytes": "peak, bytes",
    "files": "files or names",
    "rank_by_matrix": "rank by the matrix",
    "missed": "left out of the movement",
    "reached_worst": "reached, the worst tenth",
    "moved_worst": "moved, the worst tenth",
    "fewer_rows": "times fewer rows",
    "faster": "times faster",
    "speedup_rows": "times fewer rows",
    "speedup_authors": "times fewer rows, 50 sampling steps",
    "speedup_seconds": "times faster",
    "ms_a_row": "ms a row",
    "floor": "floor in seconds",
    "distance": "distance from 100 steps",
    # memory
    "tune": "what is tuned",
    "side": "latent side",
    "size": "picture side",
    "memory": "memory preset",
    "compute": "computed in",
    "weights_gb": "weights, GB",
    "trained_gb": "trained part, GB",
    "peak_gb": "peak, GB",
    "how": "how it was found",
    "estimate_gb": "estimate, GB",
    "off": "estimate is off by",
    "need_gb": "needed beside the weights, GB",
    "total_gb": "in all, GB",
    # precision
    "delta": "size of the change",
    "kb": "file, kB",
    "mb": "file, MB",
    "cosine": "cosine with the change",
    "along": "share left along it",
    "error": "relative error",
    # intervals, and differences on the same pictures
    "low": "interval from",
    "high": "interval to",
    **{f"{figure}_difference": "difference" for figure in ("esr1", "psr1", "recovery1")},
    **{f"{figure}_low": "interval from" for figure in ("esr1", "psr1", "recovery1")},
    **{f"{figure}_high": "interval to" for figure in ("esr1", "psr1", "recovery1")},
    # where the model looks
    "same_category": "same category",
    "look_alike": "a look-alike",
    "area": "drawing's share of the picture",
    **{
        f"{condition}_{word}": f"{said}: {whose} map"
        for condition, said in (("untouched", "untouched"), ("erased", "erased"), ("hidden", "with the hidden prompt"))
        for word, whose in (("word", "the word's"), ("other", "the other word's"), ("p", "p's"))
    },
    # the prompt over a run
    "share": "share of the run",
    "step": "training step",
}
# Figures that stand apart in a second table: what brings the concept back, and what the run took.
BACK = (
    "recovery1",
    "recovery1_both",
    "forged1",
    "forged_other1",
    "kept_with_p1",
    "kept_with_p1_both",
    "learnt1",
    "learnt1_strong",
    "read1",
    "seconds",
)
VALUES = {
    "sd": "untouched model",
    "sd1": "SD 1.5",
    "sd15": "SD 1.5",
    "sdxl": "SDXL",
    "hidden": "with the hidden prompt",
    "esr1": HEADINGS["esr1"],
    "psr1": HEADINGS["psr1"],
}


def heading(column: str) -> str:
    """The words over a column, by its key in the rows."""
    return HEADINGS.get(column, column)


def cell(value: Any) -> str:
    """A value as a table shows it: shares with three places, yes and no, names in words."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else VALUES.get(str(value), str(value))
