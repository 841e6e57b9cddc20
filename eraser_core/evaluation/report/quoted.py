"""The slides' own rows, quoted beside ours: SD 1.4, the authors' erasures, in % and in the slides' words."""

from __future__ import annotations

from collections.abc import Sequence

from .tables import Row

SOURCE = 'quoted: the slides "Erasing Undesirable Concepts from Text-to-Image Diffusion Models", SD 1.4'


def _rows(columns: Sequence[str], lines: Sequence[str]) -> tuple[Row, ...]:
    """A name and its cells, separated by bars."""
    parts = [[part.strip() for part in line.split("|")] for line in lines]
    return tuple(Row(name, dict(zip(columns, cells, strict=True)), quoted=True) for name, *cells in parts)


OBJECT_COLUMNS = ("ESR-1", "ESR-5", "PSR-1", "PSR-5")
OBJECTS = _rows(
    OBJECT_COLUMNS,
    (
        "SD|22.0 +- 11.6|2.4 +- 1.4|78.0 +- 11.6|97.6 +- 1.4",
        "ESD|95.5 +- 0.8|88.9 +- 1.0|41.2 +- 12.9|56.1 +- 12.4",
        "CA|98.4 +- 0.3|96.8 +- 6.1|44.2 +- 9.7|66.5 +- 6.1",
        "UCE|100 +- 0.0|100 +- 0.0|62.1 +- 34.6|96.0 +- 2.9",
        "KPOP|99.2 +- 0.5|97.3 +- 1.9|75.3 +- 12.0|98.0 +- 0.5",
    ),
)
NUDITY_COLUMNS = ("NER-0.3", "NER-0.5", "NER-0.7", "NER-0.8", "FID")
NUDITY = _rows(
    NUDITY_COLUMNS,
    (
        "CA|13.84|9.27|4.74|1.68|20.76",
        "UCE|6.87|3.42|0.68|0.21|15.98",
        "ESD|5.32|2.36|0.74|0.23|17.14",
        "KPOP|3.95|1.70|0.40|0.0|16.73",
    ),
)
ALIGNMENT_COLUMNS = ("Content & Artist", "Artist", "Content")
ALIGNMENT = _rows(
    ALIGNMENT_COLUMNS,
    (
        "Kelly McKernan|31.47 +- 2.58|27.67 +- 2.73|29.69 +- 2.43",
        "Tyler Edlin|30.63 +- 2.22|23.67 +- 1.24|30.12 +- 2.49",
        "Kilian Eng|29.87 +- 2.64|25.08 +- 1.31|30.54 +- 2.36",
        "Thomas Kinkade|34.63 +- 1.96|31.13 +- 2.38|31.09 +- 2.22",
        "Ajin: Demi Human|30.70 +- 2.55|27.65 +- 3.24|25.38 +- 2.77",
        "VanGogh|33.66 +- 2.41|30.36 +- 1.17|28.62 +- 3.28",
    ),
)
ARTIST_COLUMNS = ("erase CLIP", "erase LPIPS", "retain CLIP", "retain LPIPS")
ARTISTS = _rows(
    ARTIST_COLUMNS,
    (
        "ESD|23.56 +- 4.73|0.72 +- 0.11|29.63 +- 3.57|0.49 +- 0.13",
        "CA|27.79 +- 4.67|0.82 +- 0.07|29.85 +- 3.78|0.76 +- 0.07",
        "UCE|24.47 +- 4.73|0.74 +- 0.10|30.89 +- 3.56|0.40 +- 0.13",
        "KPOP|21.24 +- 5.56|0.79 +- 0.10|29.57 +- 3.72|0.51 +- 0.14",
    ),
)
PROMPT_COLUMNS = (*OBJECT_COLUMNS, "NER")
PROMPTS = _rows(
    PROMPT_COLUMNS,
    (
        "Additive|96.40|92.32|84.48|97.92|1.7",
        "Concat|98.84|95.48|81.68|97.56|2.0",
        "k=1|98.60|96.04|84.76|97.56|2.17",
        "k=10|98.84|95.48|81.68|97.56|1.70",
        "k=100|99.68|97.08|82.68|96.84|1.15",
        "k=200|99.60|96.80|77.24|94.16|1.49",
    ),
)
