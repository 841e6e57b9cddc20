"""`audit`: attacks on an erasure, one after the other; an interrupted audit goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..erasure import Erasure
from ..errors import OutputError, RequestError
from ..evaluation.attacks.case import Attack, Case
from ..evaluation.attacks.registry import ATTACKS, QUICK
from ..evaluation.attacks.seam import Opened
from ..evaluation.knows import ENOUGH
from ..evaluation.report.grid import png
from ..evaluation.suites.manifest import slug
from ..files import sweep, write_bytes, write_json
from ..hidden_prompt import HiddenPrompt, prompts_hash
from ..locks import LOCK, locked
from . import verdict
from .attacking import attacked, by_name, share_of
from .page import page
from .record import AGAIN, FILE, PAGE, SEVERAL, SUMMARY, Audit, Audits, Done, Setting, check_kind, earlier
from .subject import case_of, targets_of
from .summary import summary

OnAttack = Callable[[int, int, str], None]
OnPlan = Callable[[float], None]


@dataclass(frozen=True)
class Work:
    """One concept's audit before it runs: what is attacked, by what, where it is written, and what is there already."""

    case: Case
    name: str
    wanted: tuple[Attack, ...]
    out: Path | None
    setting: Setting
    before: Audit | None
    note: str = ""

    def todo(self) -> list[Attack]:
        """The attacks that are still to be run."""
        return [one for one in self.wanted if self.before is None or not _finished(self.before.of(one.name), self.out)]

    def rows(self) -> float:
        """About how many forward rows it will take, those with gradient three times."""
        begun = self.case.drawing(2) if self.before is None and (self.case.judged or self.out) else 0
        return begun + sum(attack.rows(self.case) for attack in self.todo())


def audit(
    model: Opened,
    erasure: Erasure,
    attacks: Sequence[str] = QUICK,
    *,
    out: Path | None = None,
    name: str = "erasure",
    concept: str | None = None,
    anchor: str = "",
    hidden: Sequence[HiddenPrompt] = (),
    images: int = 16,
    seed: int = 0,
    beside: Erasure | None = None,
    note: str = "",
    on_attack: OnAttack | None = None,
    on_plan: OnPlan | None = None,
) -> Audit:
    """Ask of an erasure how one of its concepts can be brought back. Neither the erasure nor the model is written to.

    `attacks` are names of `ATTACKS`. `concept` chooses the target, and names it where the file does not, with its `anchor`.
    `hidden` are the erasure's hidden prompts. `images` pictures a share. `beside` is a second LoRA, for the attack by
    settings. `note` is said on the page. With `out` the page, audit.json and pictures are written there after every attack, and
    attacks that an earlier audit of the same kind finished there are not run again. `on_plan` hears about how many forward rows it will take, those with gradient three times.
    `on_attack` hears (number, count, name) before each attack, and once more with number = count and no name; what it raises
    stops the audit.

    RequestError: another family or base, no target, a concept that the untouched model does not draw, no such attack.
    OutputError: `out` holds an audit of something else.
    """
    case = case_of(model, erasure, concept, anchor, hidden=hidden, images=images, seed=seed, beside=beside)
    work = _work(case, name, chosen(attacks), out, note)
    if on_plan:
        on_plan(work.rows())
    return _run(work, on_attack)


def audit_all(
    model: Opened,
    erasure: Erasure,
    attacks: Sequence[str] = QUICK,
    *,
    out: Path,
    name: str = "erasure",
    concept: str | None = None,
    anchor: str = "",
    hidden: Sequence[HiddenPrompt] = (),
    images: int = 16,
    seed: int = 0,
    beside: Erasure | None = None,
    note: str = "",
    anew: bool = False,
    on_attack: OnAttack | None = None,
    on_plan: OnPlan | None = None,
) -> Audits:
    """`audit` of every concept of a file, or of the one that `concept` names.

    Several have a folder each below `out`; the page in `out` has a section for each, and the verdict is that of the worst.
    `anew` replaces what is there.
    """
    names: list[str | None] = [concept] if concept else [*targets_of(erasure)] or [None]
    asked: dict[str, Any] = {"hidden": hidden, "images": images, "seed": seed, "beside": beside}
    cases = [case_of(model, erasure, one, anchor, **asked) for one in names]
    wanted = chosen(attacks)
    with locked(out / LOCK, out):
        sweep(out)
        if anew:
            (out / FILE).unlink(missing_ok=True)
        check_kind(out, several=len(cases) > 1)
        works = [_work(c, name, wanted, place, note, anew) for c, place in zip(cases, _places(out, cases), strict=True)]
        if on_plan:
            on_plan(sum(work.rows() for work in works))
        found = _run_all(works, name, out, on_attack)
    if on_attack:
        on_attack(len(works) * len(wanted), len(works) * len(wanted), "")
    return Audits(name=name, verdict=verdict.of_all(found), audits=found)


def _places(out: Path, cases: Sequence[Case]) -> list[Path]:
    """The folder of every concept: `out` itself for one alone."""
    if len(cases) == 1:
        return [out]
    return [out / f"{number}_{slug(case.target.concept)}" for number, case in enumerate(cases, 1)]


def _run_all(works: Sequence[Work], name: str, out: Path, on_attack: OnAttack | None) -> tuple[Audit, ...]:
    done = {i: work.before for i, work in enumerate(works) if work.before is not None}
    for i, work in enumerate(works):
        done[i] = _run(work, _heard(on_attack, works, i))
        if len(works) > 1:
            _write_all(name, [(done[k], works[k].out or out) for k in sorted(done)], out)
    return tuple(done[i] for i in range(len(works)))


def chosen(attacks: Sequence[str]) -> tuple[Attack, ...]:
    """The attacks of these names; RequestError where there is none."""
    for name in attacks:
        if name not in ATTACKS:
            raise RequestError(f"there is no attack {name!r}: choose from {', '.join(ATTACKS)}")
    return tuple(ATTACKS[name] for name in dict.fromkeys(attacks))


def _heard(on_attack: OnAttack | None, works: Sequence[Work], i: int) -> OnAttack | None:
    """What hears of one concept's attacks as a part of all concepts' attacks."""
    if on_attack is None:
        return None
    said = f" of {works[i].case.target.concept!r}" if len(works) > 1 else ""
    return lambda number, count, name: on_attack(i * count + number, len(works) * count, name + said) if name else None


def setting_of(case: Case) -> Setting:
    """What makes another audit the same as this one."""
    return Setting(
        erasure_hash=case.erasure.hash(),
        base_hash=case.denoiser.base_hash,
        concept=case.target.concept,
        anchor=case.target.anchor,
        images=case.n,
        seed=case.seed,
        suite_seed=case.examiner.suite_seed,
        steps=case.examiner.steps,
        guidance=case.examiner.guidance,
        prompt_hash=prompts_hash(case.hidden) if case.hidden else "",
        beside_hash="" if case.beside is None else case.beside.hash(),
    )


def _work(case: Case, name: str, wanted: tuple[Attack, ...], out: Path | None, note: str, anew: bool = False) -> Work:
    setting = setting_of(case)
    before = earlier(out) if out and not anew else None
    if before is not None and not setting.goes_on(before.setting):
        raise OutputError(f"{out} holds an audit of something else: {AGAIN}")
    return Work(case, name, wanted, out, setting, before, note)


def _run(work: Work, on_attack: OnAttack | None) -> Audit:
    case, out = work.case, work.out
    found = work.before or _begun(work)
    if case.hidden:
        found = found.model_copy(update={"setting": work.setting})
    if out and work.before is None:
        write_json(out / FILE, found.as_json())  # before any picture: whoever is killed has a folder that goes on
    if out and work.todo():
        found = _pictured(found, case, out)
    for number, attack in enumerate(work.wanted):
        if on_attack:
            on_attack(number, len(work.wanted), attack.name)
        if not _finished(found.of(attack.name), out):
            found = _with(found, attacked(case, attack, found.plain, out))
            if out:
                _write(found, out)
    if on_attack:
        on_attack(len(work.wanted), len(work.wanted), "")
    return found


def _finished(done: Done | None, out: Path | None) -> bool:
    """Whether an attack needs not be run: it was, it had a meaning, and its picture is there."""
    if done is None or done.left_out:
        return False
    return out is None or not done.picture or (out / done.picture).is_file()


def _begun(work: Work) -> Audit:
    """The audit before its first attack; RequestError where the untouched model does not draw the concept."""
    case, plain, untouched = work.case, None, None
    if case.judged:
        untouched, plain = (case.seen(case.plain(erased)) for erased in (False, True))
        if untouched is not None and untouched.value < ENOUGH:
            raise RequestError(
                f"the untouched model shows {case.target.concept!r} in only {untouched.hits} of {untouched.n} pictures: there "
                "is nothing that an attack could bring back"
            )
    return Audit(
        schema="concept-eraser-audit-1",
        name=work.name,
        setting=work.setting,
        unknown=case.unknown,
        judged=case.judged,
        plain=share_of(plain),
        plain_untouched=share_of(untouched),
        note=work.note,
    )


def _pictured(found: Audit, case: Case, out: Path) -> Audit:
    """With the picture of the concept asked for by its name, where it is not there."""
    if found.picture and (out / found.picture).is_file():
        return found
    return found.model_copy(update={"picture": by_name(case, out)})


def _with(found: Audit, done: Done) -> Audit:
    attacks = (*(one for one in found.attacks if one.name != done.name), done)
    said = verdict.of_whole(found.setting.concept, attacks, found.plain)
    return found.model_copy(update={"attacks": attacks, "verdict": said})


def _write(found: Audit, out: Path) -> None:
    """The page last: whoever is stopped in between has the figures, and the next call writes the page."""
    write_json(out / FILE, found.as_json())
    sheet = summary([(found, out)])
    if sheet is not None:
        write_bytes(out / SUMMARY, png(sheet))
    write_bytes(out / PAGE, page(found.name, found.verdict, [(found, out)], sheet).encode("utf-8"))


def _write_all(name: str, found: Sequence[tuple[Audit, Path]], out: Path) -> None:
    """The page of all concepts, and audit.json, which says where each one's figures are."""
    said, sheet = verdict.of_all([audit for audit, _ in found]), summary(found)
    folders = [place.name for _, place in found]
    write_json(out / FILE, {"schema": SEVERAL, "name": name, "verdict": said, "folders": folders})
    if sheet is not None:
        write_bytes(out / SUMMARY, png(sheet))
    write_bytes(out / PAGE, page(name, said, found, sheet).encode("utf-8"))
