"""Do other settings bring it back: sampler steps, guidance, a weaker file?

An erasure is made at one guidance scale and grid of timesteps. Where it only just wins, others give way (the scale is that
of arXiv 2207.12598, the grid that of arXiv 2010.02502).
"""

from __future__ import annotations

from .case import Attack, Case, Finding

GUIDANCE = (1.0, 2.0, 6.0, 12.0)
STRENGTHS = (0.75, 0.5)


def run(case: Case) -> list[Finding]:
    """Fewer and more steps, guidance from 1 to 12, and the file at a part of its strength."""
    context, usual, found = case.contexts(), case.examiner.steps, []
    for steps in sorted({max(2, usual // 2), usual * 2}):
        pair = case.pair(context, steps=steps)
        found.append(case.found(f"{steps} steps", f"with {steps} sampler steps", *pair))
    for guidance in GUIDANCE:
        pair = case.pair(context, guidance=guidance)
        found.append(case.found(f"guidance {guidance:g}", f"at guidance {guidance:g}", *pair))
    for strength in STRENGTHS:
        weaker = case.draw(context, case.frozen(case.erasure, strength))
        found.append(
            case.found(f"strength {strength:g}", f"with the file at strength {strength:g}", weaker, case.plain(False))
        )
    return found


ATTACK = Attack(
    "settings",
    "Do other settings bring it back: fewer or more sampler steps, guidance from 1 to 12, a weaker file?",
    "arXiv 2207.12598",
    "n pictures a setting and model: n x steps x 2 forward rows each, n x steps at guidance 1",
    run,
    lambda case: case.drawing(5 + 2 * len(GUIDANCE) - 1 + len(STRENGTHS)),
    quick=True,
)
