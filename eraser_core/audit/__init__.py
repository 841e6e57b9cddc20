"""How an erasure can be undone: `audit` runs the attacks of `evaluation/attacks/` and says what came of them."""

from .record import Audit, Done, Row, Share
from .run import audit

__all__ = ["Audit", "Done", "Row", "Share", "audit"]
