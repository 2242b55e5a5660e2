"""Which faults strike while payouts are in which states: every cell that can be reached, and why others cannot.

A run proves nothing about what it never met. One of the standard size must have met every kind of fault and every
state; a large one every cell. A run that has not is void.
"""

from collections.abc import Collection

from tests.sim.faults import KINDS, RARE
from tests.sim.faults import STATES as RESTING

STATES = ("requested", *RESTING)

STANDARD = 200
LARGE = 10_000
"""Seeds."""

UNREACHABLE: dict[tuple[str, str], str] = {
    **{
        (kind, "requested"): "a payout is requested only within the unit that also judges it: no commit leaves it there"
        for kind in KINDS
    },
    **{
        ("crash.recover.after_records", state): (
            "runs whose database is restored have no edits of policies or people, so that no record has to be"
            " recovered; tests/recovery edits and dies there"
        )
        for state in RESTING
    },
}

FAR: frozenset[tuple[str, str]] = frozenset(
    {
        *((kind, state) for kind in RARE for state in RESTING),
        *(("reorg.competitor", state) for state in RESTING),
    }
)
"""Reached, but some of them less than once in 400 seeds: no run is void for missing one."""


def reachable() -> frozenset[tuple[str, str]]:
    """Return every cell that can be reached."""
    return frozenset((kind, state) for kind in KINDS for state in STATES) - UNREACHABLE.keys()


def missed(seen: Collection[tuple[str, str]], seeds: int) -> list[str]:
    """Return what a run of ``seeds`` seeds should have met and did not."""
    held_to = reachable() - FAR
    if seeds >= LARGE:
        return [f"{kind} never struck while a payout was {state}" for kind, state in sorted(held_to - set(seen))]
    if seeds < STANDARD:
        return []
    kinds = {kind for kind, _ in held_to} - {kind for kind, _ in seen}
    states = {state for _, state in held_to} - {state for _, state in seen}
    return [
        *(f"{kind} never struck" for kind in sorted(kinds)),
        *(f"nothing struck while a payout was {state}" for state in sorted(states)),
    ]
