"""What an erasure's file says of the register that it carries out, for people."""

from __future__ import annotations

from collections.abc import Mapping

from ..records import OptOutRecord


def optout_of(facts: Mapping[str, str]) -> str:
    """One line; "" where the erasure comes from no register."""
    if "erasure.optout" not in facts:
        return ""
    said = OptOutRecord.model_validate_json(facts["erasure.optout"])
    checked = "" if said.verified else "; who asked for them was not verified"
    return f"{said.names} name{'' if said.names == 1 else 's'} of the register {said.register_hash[:12]}{checked}"
