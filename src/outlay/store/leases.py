"""Leases: what one process at a time does, taken over from one that has ended or hangs.

A lease says who works, the fence who may write: each change of hands counts it up, and a unit that depends on a lease
asks for its fence first (``hold``). So a process that was frozen past its lease and wakes up changes nothing.
"""

from collections.abc import Collection

import sqlalchemy as sa

from outlay.core.errors import Unavailable
from outlay.store.database import Unit
from outlay.store.schema import lease

_FIND = sa.select(lease).where(lease.c.name.in_(sa.bindparam("names", expanding=True)))
_FENCES = sa.select(lease.c.name, lease.c.fence).where(lease.c.name.in_(sa.bindparam("names", expanding=True)))
_AT_FENCE = sa.update(lease).where(lease.c.name == sa.bindparam("of_name"), lease.c.fence == sa.bindparam("at_fence"))


def take(unit: Unit, names: Collection[str], *, holder: str, now: int, until: int) -> dict[str, int | None]:
    """Take or renew leases; return the fence of each, or None while another process holds it.

    Args:
        unit: the write unit.
        names: of what is done: ``housekeeping``, ``deliver/<webhook id>``, ``watch/<network>``.
        holder: names the process.
        now: the current instant.
        until: when the leases run out.
    """
    known = {row.name: row for row in unit.execute(_FIND, {"names": sorted(names)})}
    fences: dict[str, int | None] = {}
    for name in names:
        row = known.get(name)
        if row is None:
            fences[name] = 1
        elif row.holder == holder:
            fences[name] = row.fence
        else:
            is_held = row.leased_until is not None and row.leased_until > now
            fences[name] = None if is_held else row.fence + 1
    mine = {"holder": holder, "leased_until": until}
    taken = [
        {"of_name": name, "at_fence": known[name].fence, "fence": fence, **mine}
        for name, fence in sorted(fences.items())
        if fence is not None and name in known
    ]
    made = [{"name": name, "fence": 1, **mine} for name in sorted(fences) if name not in known]
    if taken:
        unit.execute(_AT_FENCE, taken)
    if made:
        unit.execute(sa.insert(lease), made)
    return fences


def release(unit: Unit, name: str, *, fence: int) -> None:
    """Let another process take a lease at once, if it is still held at ``fence``."""
    unit.execute(_AT_FENCE, {"of_name": name, "at_fence": fence, "leased_until": None})


def release_all(unit: Unit, *, prefix: str = "") -> None:
    """End the leases of all holders whose names begin with ``prefix``; only for who knows that they are dead."""
    theirs = lease.c.holder.startswith(prefix, autoescape=True)
    unit.execute(sa.update(lease).where(theirs).values(leased_until=None))


def hold(unit: Unit, name: str, *, fence: int) -> None:
    """Refuse to go on with what was leased to somebody else meanwhile.

    Raises:
        Unavailable: the fence is stale; nothing of this unit is kept, and the new holder goes on.
    """
    if not holds(unit, {(name, fence)}):
        raise Unavailable(f"{name} was leased to another process")


def holds(unit: Unit, fences: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
    """Return which of these leases are still at these fences."""
    names = sorted({name for name, _ in fences})
    return {(row.name, row.fence) for row in unit.execute(_FENCES, {"names": names})} & set(fences)
