"""`optout`: a register of names is erased from a model, and brought up to date when it changes."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import seed, whole

if TYPE_CHECKING:
    from ..models import Model
    from ..optout.plan import Plan
    from ..optout.register import Named, Register
    from ..optout.run import Order, Outcome
    from ..optout.solve import Made
    from ..training import Step

log = logging.getLogger(__name__)

EPILOG = """\
A register is a CSV or JSON file of names; docs/opting_out.md has its columns. Everything goes into DIR/MODEL: the erasure,
a page with every name before and after, and a record of what changed. The same command again does only what it must.

  python -m eraser_core optout optouts.csv --model pocket --out out/optout
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The switches of `optout`."""
    parser.epilog = EPILOG
    parser.add_argument("register", type=Path, nargs="?", help="the register: a .csv or .json file")
    parser.add_argument("--model", nargs="+", default=["pocket"], help="one model or several (default: pocket)")
    parser.add_argument("--out", type=Path, help="folder; every model gets one of its own in it")
    parser.add_argument(
        "--method", default="uce", help="uce, dp, or one that is trained (default: uce, in closed form)"
    )
    parser.add_argument("--retain", nargs="*", default=[], help="further concepts to keep")
    parser.add_argument("--names", type=Path, help="a text file of names, one a line, to find hashed entries by")
    parser.add_argument("--identities", action="store_true", help="erase names of people too")
    parser.add_argument(
        "--images", type=whole(0), help="pictures a name that is looked at (default: 12; 0 on a real model)"
    )
    parser.add_argument(
        "--again", type=whole(0), default=4, help="names to look at again that had no change (default: 4)"
    )
    parser.add_argument("--steps", type=whole(1, 1000), help="sampling steps of the pictures (default: the model's)")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the run (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    parser.add_argument("--hash", metavar="NAME", help="print a salt and the hash of a name, for a register, and end")


def run(args: argparse.Namespace) -> int:
    """Carry the register out on every model; several processes of accelerate share the models."""
    from ..errors import RequestError
    from ..evaluation.suites.processes import processes
    from ..optout.register import named, read_register
    from .loading import usable

    if args.hash is not None:
        return _hash(args.hash)
    if args.register is None or args.out is None:
        raise RequestError("name the register and a folder: optout optouts.csv --out out/optout")
    register = read_register(args.register)
    candidates = _lines(args.names) if args.names else []
    found = named(register, candidates, args.identities)
    folders = [args.out / _folder(model) for model in args.model]
    if len(set(folders)) < len(folders):
        raise RequestError("two models have one name, and would have one folder: call the command once for each")
    team = processes(usable(args.device))
    for model, out in team.share(list(zip(args.model, folders, strict=True))):
        _one(args, model, out, register, found, team.device(usable(args.device)))
    team.wait()
    return 0


def _one(args: argparse.Namespace, name: str, out: Path, register: Register, found: Named, device: str) -> None:
    from ..models import open_model
    from ..optout import run as engine
    from ..optout.plan import plan
    from . import folder
    from .progress import drawing

    engine.check_folder(out)
    model = open_model(name, device, steps=args.steps)
    log.info("model %s on %s", name, device)
    images = args.images if args.images is not None else 12 if model.concepts is not None else 0
    asked = plan(model, found, args.retain, args.seed, images)
    for label, why in asked.left_out.items():
        log.warning("left out: %s: %s", label, why)
    order = engine.Order(args.method, _values(args.method, asked), images, args.again)
    since = engine.unchanged(model, asked, order, out)
    if since:
        log.info("%s: nothing has changed since %s", out, since)
        return
    with folder.held(out):
        made = _made(args, model, asked, register, order, out)
        _say(out, engine.finish(model, name, asked, register, order, out, made, drawing))


def _values(method: str, plan: Plan) -> dict[str, Any]:
    """Settings that so many names need, as far as the method has them: KPOP's own for several concepts."""
    from ..edits import START_TUNES
    from ..evaluation.pocket.tasks import settings_for
    from ..methods import kpop
    from ..methods import method as registered

    known = registered(method).settings.model_fields
    trained = "tune" in known and known["tune"].default in START_TUNES
    many = kpop.usual(len(plan.entries), {}) if trained and len(plan.entries) > 1 else {}
    return settings_for(plan.tasks, known) | many


def _made(args: argparse.Namespace, model: Model, plan: Plan, register: Register, order: Order, out: Path) -> Made:
    from ..erasing import configure
    from ..methods import method
    from ..optout.run import make
    from ..optout.solve import Hooks
    from ..progress import Phase
    from .interrupt import stops_between_steps
    from .progress import Training

    chosen = method(args.method)
    with stops_between_steps() as check:
        if chosen.learner is None:
            with Phase("reading", len(plan.entries), "name") as phase:

                def read(count: int) -> None:
                    phase.forward(count)
                    check()

                return make(model, plan, register, order, out, Hooks(on_target=read))
        settings = configure(chosen, model.denoiser.family, plan.request, order.values)
        with Training(settings.filled(plan.request), settings.all_steps) as bar:

            def step(done: Step) -> None:
                bar.step(done)
                check()

            return make(model, plan, register, order, out, Hooks(on_fill=bar.fill, on_step=step))


def _say(out: Path, done: Outcome) -> None:
    from ..files import size_said
    from ..optout.run import ERASURE, PAGE

    judged = [look for look in done.looks if look.seen_after is not None]
    if judged:
        n = sum(look.images for look in judged)
        left = sum((look.seen_after or 0) * look.images for look in judged)
        log.info("%d of %d pictures of %d names still show the name", round(left), n, len(judged))
    for look in judged:
        if look.hardly_known:
            log.warning("the model hardly draws %s: its figures say nothing", look.label)
    if done.others is not None:
        before, after, n = done.others
        log.info("%d of %d pictures of other objects are right, %d before", round(after * n), n, round(before * n))
    size = size_said((out / ERASURE).stat().st_size)
    log.info("%d names erased: %s (%s). The page: %s", len(done.looks), out / ERASURE, size, out / PAGE)


def _lines(path: Path) -> list[str]:
    from ..errors import FileFormatError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path} cannot be read as UTF-8 text ({error}): one name a line is expected") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _folder(model: str) -> str:
    """The folder of a model, named as its file or folder."""
    path = Path(model)
    return path.stem if path.suffix == ".safetensors" else path.name


def _hash(name: str) -> int:
    import secrets

    from ..optout.register import hashed

    salt = secrets.token_hex(8)
    sys.stdout.write(f"salt,name_hash\n{salt},{hashed(name, salt)}\n")
    return 0
