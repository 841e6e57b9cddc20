"""All attacks, by the names of the command line, in the order in which an audit takes them."""

from __future__ import annotations

from . import (
    algebra,
    benign,
    context,
    inpainting,
    inversion,
    keys,
    negative,
    precision,
    relearning,
    search,
    settings,
    token,
    words,
)
from .case import Attack

_TRAINED = (context, token, search, relearning, benign)
_ALL = (words, negative, settings, algebra, precision, *_TRAINED, inpainting, inversion, keys)
ATTACKS: dict[str, Attack] = {module.ATTACK.name: module.ATTACK for module in _ALL}
QUICK = tuple(name for name, attack in ATTACKS.items() if attack.quick)
