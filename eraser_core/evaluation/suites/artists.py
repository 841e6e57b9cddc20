"""Artists: prompts in an artist's style, CLIP and LPIPS against the untouched model (slides, "Erasing Artistic Style").

The authors' 40 prompts an artist are not published with the slides; ours are eight forms times five subjects. CLIP is
the picture against its own prompt (content and artist), as in the slides' table of the original model; against the
artist's name and against the content alone it is a table of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...errors import RequestError
from ..report import quoted
from ..report.tables import Cell, Row, Table, score
from .items import UNTOUCHED, Item, Subject
from .results import Results, about, common, differ, names, pairs
from .scorers import Metric, clip, lpips

ARTISTS = ("Kelly McKernan", "Thomas Kinkade", "Tyler Edlin", "Kilian Eng", "Ajin: Demi Human")
FORMS = (
    "{content} by {artist}",
    "{content} in the style of {artist}",
    "a painting of {content} by {artist}",
    "an artwork of {content}, art by {artist}",
    "{artist}'s picture of {content}",
    "{content}, {artist} style",
    "a detailed illustration of {content} in the style of {artist}",
    "{content} as {artist} would draw it",
)
CONTENTS = (
    "a woman with flowing hair",
    "a cottage by a river",
    "a city at night",
    "a forest in the fog",
    "a lone traveller",
)
ROOM = 100_000  # an artist's numbers
PROMPTS = len(FORMS) * len(CONTENTS)
ALONE = "art by {artist}"


class ArtistSuite:
    """`images` pictures for each of an artist's 40 prompts; as many once for the artist alone and the content alone."""

    name, explicit, reference = "artists", False, None

    def __init__(self, subjects: Sequence[Subject], artists: Sequence[str], images: int, weights: Path, device: str):
        if not 1 <= images <= ROOM // (4 * PROMPTS):
            raise RequestError(
                f"--images {images}: ask for 1 to {ROOM // (4 * PROMPTS)} pictures a prompt (the slides: 5)"
            )
        self._images, self._weights, self._device = images, weights, device
        self._artists, self.subjects = tuple(artists), tuple(subjects)
        self.said = f"--images {images} --artist {' '.join(repr(a) for a in artists)}"
        self.targets = {subject: self._erased(subject) for subject in subjects}
        erased = [name for targets in self.targets.values() for name in targets if name is not None]
        self.concepts_shown = tuple(dict.fromkeys([*erased, *self._artists]))

    def _erased(self, subject: Subject) -> tuple[str | None, ...]:
        """The artist that each target names; RequestError if none of them does."""
        found = tuple(next((a for a in self._artists if a.lower() in t.lower()), None) for t in subject.targets)
        if not any(found):
            raise RequestError(
                f"{subject.path} erases {', '.join(subject.targets)}, none of the artists {', '.join(self._artists)}: "
                "name its artists with --artist"
            )
        return found

    def items(self) -> list[Item]:
        found = []
        for number, artist in enumerate(self._artists):
            for i, (form, content) in enumerate(itertools.product(FORMS, CONTENTS)):
                prompt = form.format(content=content, artist=artist)
                alone = ALONE.format(artist=artist)
                texts = {"prompt": prompt, "artist": artist, "content": content}
                first = ROOM * number + i * self._images
                for j in range(self._images):
                    found.append(Item(first + j, prompt, "artists", artist, artist, texts=texts))
                    # Without content, and without artist: what naming each of them does.
                    for part, said, shift in (("artist alone", alone, 2), ("content alone", content, 4)):
                        found.append(Item(first + j + ROOM // shift, said, part, artist, texts=texts))
        return found

    def draws(self, subject: Subject | None, item: Item) -> bool:
        return subject is None or item.part == "artists"

    def target_of(self, subject: Subject, item: Item) -> int | None:
        targets = self.targets[subject]
        return targets.index(item.concept) if item.concept in targets else None

    def metrics(self) -> list[Metric]:
        return [clip(self._weights, self._device), lpips(self._weights, self._device)]

    def tables(self, results: Results) -> list[Table]:
        return [self._alignment(results), self._main(results), *self._differences(results)]

    def _alignment(self, results: Results) -> Table:
        """Does the model know the artist at all? CLIP on the untouched model, each picture against its own prompt."""
        found, rows = results.of("CLIP score"), list[Row]()
        for artist in self._artists:
            if found is None:
                break
            cells: dict[str, Cell] = {}
            parts = (("artists", "prompt"), ("artist alone", "artist"), ("content alone", "content"))
            for column, (part, text) in zip(quoted.ALIGNMENT_COLUMNS, parts, strict=True):
                own = found.where(_of(part, artist))
                cells[column] = score(own[text])
            own_names = tuple(s.name for s in self.subjects if artist in self.targets[s])
            rows.append(Row(artist, cells, about=own_names))
        note = (
            "CLIP score (ViT-B/32) of pictures against the words that they were drawn from, on the untouched model: +- over "
            "pictures, 95 % bootstrap interval of the mean."
        )
        title = "CLIP alignment on the original model"
        return Table(title, quoted.ALIGNMENT_COLUMNS, (*rows, *quoted.ALIGNMENT), note)

    def _sheets(self, subject: Subject) -> dict[str, Callable[[Item], bool]]:
        targets = self.targets[subject]
        return {
            "erase": lambda item: item.part == "artists" and item.concept in targets,
            "retain": lambda item: item.part == "artists" and item.concept not in targets,
        }

    def _main(self, results: Results) -> Table:
        rows = []
        for targets in dict.fromkeys(self.targets.values()):
            own = [s for s in self.subjects if self.targets[s] == targets]
            said = ", ".join(t for t in targets if t)
            rows.append(
                Row(f"{UNTOUCHED} ({said})", self._cells(results, own[0], None), about=tuple(s.name for s in own))
            )
            rows += [Row(f"{s.name} ({said})", self._cells(results, s, s), about=(s.name,)) for s in own]
        for method in dict.fromkeys(s.method for s in self.subjects):
            every = [s for s in self.subjects if s.method == method]
            if len({self.targets[s] for s in every}) == len(every) > 1:
                cells = self._together(results, every)
                rows.append(Row(f"{method}, {len(every)} erasures together", cells, about=tuple(s.name for s in every)))
        note = (
            "To erase: prompts with the erased artists; to retain: with the others. CLIP: picture against its prompt; LPIPS: "
            f"against the untouched model's picture of the same seed. {PROMPTS} prompts x {self._images} pictures an artist; "
            "+- over pictures, 95 % bootstrap interval of the mean."
        )
        arrows = dict(zip(quoted.ARTIST_COLUMNS, ("(down)", "(up)", "(up)", "(down)"), strict=True))
        title = "Erasing artistic style concepts"
        return Table(title, quoted.ARTIST_COLUMNS, (*rows, *quoted.ARTISTS), note, arrows)

    def _cells(self, results: Results, seen_from: Subject, subject: Subject | None) -> dict[str, Cell]:
        return {column: score(values) for column, values in self._values(results, seen_from, subject).items()}

    def _together(self, results: Results, subjects: Sequence[Subject]) -> dict[str, Cell]:
        """One method's erasures of several artists as one row, as the slides have it: all their pictures."""
        every = [self._values(results, s, s) for s in subjects]
        columns = dict.fromkeys(column for values in every for column in values)
        return {column: score(torch.cat([values[column] for values in every])) for column in columns}

    def _values(self, results: Results, seen_from: Subject, subject: Subject | None) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for name, keep in self._sheets(seen_from).items():
            for metric, label, column in METRICS:
                found = results.of(metric, subject)
                if found is not None:
                    values[f"{name} {label}"] = found.where(keep)[column]
        return values

    def _differences(self, results: Results) -> list[Table]:
        rows = []
        for one, other in pairs(self.subjects, lambda s: self.targets[s]):
            cells: dict[str, Cell] = {}
            for name, keep in self._sheets(one).items():
                for metric, label, column in METRICS:
                    values = _both(results, metric, column, one, other, keep)
                    if values is not None:
                        cells[f"{name} {label}"] = differ(*values)
            rows.append(Row(names(one, other), cells, about=about(one, other)))
        note = "First minus second on the same seeds: means, 95 % bootstrap interval over pairs, sign test."
        return [Table("Differences, paired by seed", quoted.ARTIST_COLUMNS, tuple(rows), note)] if rows else []


METRICS = (("CLIP score", "CLIP", "prompt"), ("LPIPS", "LPIPS", "distance"))


def _of(part: str, artist: str) -> Callable[[Item], bool]:
    return lambda item: item.part == part and item.concept == artist


def _both(
    results: Results, metric: str, column: str, one: Subject, other: Subject | None, keep: Callable[[Item], bool]
) -> tuple[Tensor, Tensor] | None:
    both = [results.of(metric, s) for s in (one, other)]
    if both[0] is None or both[1] is None:
        return None
    first, second = (f.where(keep)[column] for f in common(both[0], both[1]))
    return first, second
