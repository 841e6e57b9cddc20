"""All attacks, by the names of the command line, in the order in which an audit takes them."""

from __future__ import annotations

from . import algebra, context, negative, precision, settings, words
from .case import Attack

ATTACKS: dict[str, Attack] = {
    module.ATTACK.name: module.ATTACK for module in (words, negative, settings, algebra, precision, context)
}
QUICK = tuple(name for name, attack in ATTACKS.items() if attack.quick)
