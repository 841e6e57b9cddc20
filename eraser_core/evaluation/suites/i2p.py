"""I2P: prompts that draw what nobody asked to see, NudeNet as the judge (slides, "Mitigating Unethical Content").

Reads the public CSV: the columns `prompt`, `evaluation_seed` or `sd_seed`, `evaluation_guidance` or
`sd_guidance_scale`, where there `case_number` (else the row), and `without`: the prompt without the erased concept,
edited by hand, for the third CLIP score. A picture's noise is torch's from its published seed, at the model's own size
(the file's widths and heights are not followed).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import RequestError
from ..metrics.fid import Extractor, InceptionFeatures
from ..metrics.nudity import THRESHOLDS
from ..report import quoted
from ..report.tables import Cell, Figure, Row, Table, score, share
from .items import UNTOUCHED, Item, Subject
from .nudity_tables import scores_of
from .results import Found, Results, about, common, differ, names, pairs, set_distance
from .scorers import INCEPTION_FILE, Metric, clip, inception, nudenet

SEEDS, GUIDANCES = ("evaluation_seed", "sd_seed"), ("evaluation_guidance", "sd_guidance_scale")
CLIP_COLUMNS = ("Image vs prompt", "Image vs concept", "Image vs prompt without it")
TEXTS = dict(zip(CLIP_COLUMNS, ("prompt", "concept", "without"), strict=True))
DEFAULT_CONCEPT = "nudity"


@dataclass(frozen=True)
class Prompt:
    """A line of the file."""

    case: int
    prompt: str
    seed: int
    guidance: float
    without: str


class I2PSuite:
    """`images` prompts, evenly over the file; None for all. `reference` is a folder of pictures for FID."""

    name, explicit = "i2p", True

    def __init__(
        self,
        subjects: Sequence[Subject],
        prompts: Path,
        images: int | None,
        weights: Path,
        reference: Path | None,
        device: str,
    ):
        self.subjects, self._weights, self._device = tuple(subjects), weights, device
        targets = {t for s in subjects for t in s.targets}
        self._concept = targets.pop() if len(targets) == 1 else DEFAULT_CONCEPT
        rows = read_prompts(prompts)
        if images is not None and not 1 <= images <= len(rows):
            raise RequestError(f"--images {images}: {prompts} has {len(rows)} prompts")
        count = len(rows) if images is None else images
        self._rows = [rows[i * len(rows) // count] for i in range(count)]
        self.said = f"--prompts {prompts.name} --images {count}"
        self.concepts_shown = (self._concept,)
        self.reference: tuple[Path, Callable[[], Extractor]] | None = None
        if reference is not None:
            self.reference = reference, lambda: InceptionFeatures(weights / INCEPTION_FILE, device)

    def items(self) -> list[Item]:
        found = []
        for row in self._rows:
            texts = {"prompt": row.prompt, "concept": self._concept} | ({"without": row.without} if row.without else {})
            found.append(Item(row.case, row.prompt, "i2p", self._concept, self._concept, row.seed, row.guidance, texts))
        return found

    def draws(self, subject: Subject | None, item: Item) -> bool:
        return True

    def target_of(self, subject: Subject, item: Item) -> int | None:
        return 0

    def metrics(self) -> list[Metric]:
        return [nudenet(), clip(self._weights, self._device), inception(self._weights, self._device)]

    def tables(self, results: Results) -> list[Table]:
        found = [self._nudity(results), self._clip(results), *self._differences(results)]
        return [table for table in found if table.rows]

    def _models(self) -> list[tuple[str, Subject | None, bool, tuple[str, ...]]]:
        """Name, erasure, hidden prompt, and the sidecars that the row belongs in."""
        models: list[tuple[str, Subject | None, bool, tuple[str, ...]]] = [
            (UNTOUCHED, None, False, tuple(s.name for s in self.subjects))
        ]
        for s in self.subjects:
            models.append((s.name, s, False, (s.name,)))
            if s.prompts:
                models.append((f"{s.name} + hidden prompt", s, True, (s.name,)))
        return models

    def _nudity(self, results: Results) -> Table:
        rows = []
        for name, subject, hidden, own in self._models():
            cells: dict[str, Cell] = {}
            found = results.of("NudeNet", subject, hidden)
            if found is not None:
                scores = scores_of(found)
                cells = {f"NER-{t}": share(scores.ner(t)) for t in THRESHOLDS}
            cells["FID"] = _fid(results, subject, hidden)
            rows.append(Row(name, cells, about=own))
        compared = "the reference folder's pictures" if results.reference else "the untouched model's pictures"
        note = (
            f"NudeNet: any of the nine exposed classes above t, n = {len(self._rows)} prompts, Wilson's 95 % interval. FID "
            f"against {compared} (Inception), biased upwards for small n. Quoted rows: 4703 prompts."
        )
        arrows = dict.fromkeys(quoted.NUDITY_COLUMNS, "(down)")
        title = "Evaluation on the nudity erasure setting"
        return Table(title, quoted.NUDITY_COLUMNS, (*rows, *quoted.NUDITY), note, arrows)

    def _clip(self, results: Results) -> Table:
        rows = []
        for name, subject, hidden, own in self._models():
            found = results.of("CLIP score", subject, hidden)
            if found is not None:
                rows.append(Row(name, _clip_cells(found), about=own))
        note = f"CLIP score (ViT-B/32), 95 % bootstrap interval of the mean. Concept: {self._concept!r}; the last column where the file has it."
        arrows = dict(zip(CLIP_COLUMNS, ("(up)", "(down)", "(up)"), strict=True))
        return Table("CLIP scores", CLIP_COLUMNS, tuple(rows), note, arrows)

    def _differences(self, results: Results) -> list[Table]:
        rows, columns = [], (*(f"NER-{t}" for t in THRESHOLDS), CLIP_COLUMNS[0])
        for one, other in pairs(self.subjects, lambda s: s.targets):
            cells: dict[str, Cell] = {}
            seen = [results.of("NudeNet", s) for s in (one, other)]
            if seen[0] is not None and seen[1] is not None:
                first, second = common(seen[0], seen[1])
                for i, t in enumerate(THRESHOLDS):
                    left, right = (f["counts"][:, i].sum(1) > 0 for f in (first, second))
                    cells[f"NER-{t}"] = differ(left, right)
            said = [results.of("CLIP score", s) for s in (one, other)]
            if said[0] is not None and said[1] is not None:
                left, right = (f["prompt"] for f in common(said[0], said[1]))
                cells[CLIP_COLUMNS[0]] = differ(left, right)
            if cells:
                rows.append(Row(names(one, other), cells, about=about(one, other)))
        note = "First minus second on the same seeds, 95 % interval, p (Newcombe and McNemar; bootstrap and sign test)."
        return [Table("Differences, paired by seed", columns, tuple(rows), note)]


def _fid(results: Results, subject: Subject | None, hidden: bool) -> Figure | None:
    found, untouched = results.of("FID", subject, hidden), results.of("FID")
    reference = results.reference.get("FID")
    if found is None or untouched is None or (reference is None and subject is None):
        return None
    return set_distance(untouched["features"] if reference is None else reference, found["features"])


def _clip_cells(found: Found) -> dict[str, Cell]:
    cells: dict[str, Cell] = {}
    for column, text in TEXTS.items():
        if text in found.columns:
            values = found[text]
            cells[column] = score(values[~values.isnan()])
    return cells


def read_prompts(path: Path) -> list[Prompt]:
    """The lines of the public CSV; RequestError names what it lacks."""
    if not path.is_file():
        raise RequestError(f"there is no file {path}: give the CSV of I2P's prompts")
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    have = set(lines[0]) if lines else set()
    seed, guidance = (next((n for n in wanted if n in have), None) for wanted in (SEEDS, GUIDANCES))
    if "prompt" not in have or seed is None or guidance is None:
        raise RequestError(
            f"{path} needs the columns prompt, {' or '.join(SEEDS)}, and {' or '.join(GUIDANCES)}; it has "
            f"{', '.join(sorted(have)) or 'no lines'}"
        )
    found = []
    for number, line in enumerate(lines):
        try:
            case = int(line.get("case_number") or number)
            prompt = Prompt(case, line["prompt"], int(line[seed]), float(line[guidance]), line.get("without") or "")
        except (TypeError, ValueError) as error:
            raise RequestError(f"{path}, line {number + 2}: {error}; seeds and guidance scales are numbers") from error
        found.append(prompt)
    if len({p.case for p in found}) < len(found):
        raise RequestError(f"{path} has a case_number twice: each names one picture")
    return found
