"""Velocity of many payouts that are signed together; read ``store.velocity`` first.

What ``velocity.sign`` does to one entry is done here to many, in their order, with each counter written once.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.core.seams import Instant
from outlay.core.velocity import Window, entry_of, next_instant
from outlay.store.database import Unit
from outlay.store.prepared import Prepared
from outlay.store.schema import counter_entry, velocity_counter, velocity_entry

_ENTRIES = sa.select(velocity_entry).where(velocity_entry.c.transfer_id.in_(sa.bindparam("ids", expanding=True)))
_PLACES = sa.select(velocity_entry.c.transfer_id, velocity_entry.c.admitted).where(
    velocity_entry.c.transfer_id.in_(sa.bindparam("ids", expanding=True))
)
_COUNTED = sa.select(counter_entry.c.policy_id, counter_entry.c.scope_key, counter_entry.c.transfer_id).where(
    counter_entry.c.transfer_id.in_(sa.bindparam("ids", expanding=True))
)
_COUNTERS = (
    sa.select(velocity_counter)
    .where(
        velocity_counter.c.policy_id == sa.bindparam("policy_id"),
        velocity_counter.c.scope_key.in_(sa.bindparam("keys", expanding=True)),
    )
    .order_by(velocity_counter.c.scope_key)
    .with_for_update()
)
_NEWEST = sa.select(sa.func.max(velocity_entry.c.signed_at))
_WRITE_ENTRIES = Prepared(sa.update(velocity_entry).where(velocity_entry.c.transfer_id == sa.bindparam("of_transfer")))
_WRITE_COUNTERS = Prepared(
    sa.update(velocity_counter).where(
        velocity_counter.c.policy_id == sa.bindparam("of_policy_id"),
        velocity_counter.c.scope_key == sa.bindparam("of_scope_key"),
    )
)
# By the payout: as long as PostgreSQL knows nothing about a table that has grown quickly or was restored, it would go
# through all of a counter for each of its entries. Nothing is added to the other two, which no index has like that.
_SIGN_COUNTED = Prepared(
    sa.update(counter_entry).where(
        counter_entry.c.policy_id.concat("") == sa.bindparam("of_policy_id"),
        counter_entry.c.scope_key.concat("") == sa.bindparam("of_scope_key"),
        counter_entry.c.transfer_id == sa.bindparam("of_transfer"),
    )
)


def places(unit: Unit, transfer_ids: Sequence[str]) -> dict[str, int]:
    """Return the place of each payout in the order of admission; those that were never admitted are left out."""
    if not transfer_ids:
        return {}
    return {row.transfer_id: row.admitted for row in unit.execute(_PLACES, {"ids": list(transfer_ids)})}


class _Counter:
    """One counter while entries move from its open side to its signed one."""

    def __init__(self, row: sa.Row[Any]) -> None:
        self.key = {"of_policy_id": row.policy_id, "of_scope_key": row.scope_key}
        self.last_at: Instant = row.last_at
        self.open = Window(row.open_value, row.open_count, row.open_unknown)
        self.signed = Window(row.signed_value, row.signed_count, row.signed_unknown)

    def columns(self) -> dict[str, Any]:
        """Return what it says now."""
        return {
            **self.key,
            "last_at": self.last_at,
            "open_value": self.open.value,
            "open_count": self.open.count,
            "open_unknown": self.open.unknown,
            "signed_value": self.signed.value,
            "signed_count": self.signed.count,
            "signed_unknown": self.signed.unknown,
        }


def sign(unit: Unit, transfer_ids: Sequence[str], now: Instant) -> None:
    """Move the entries of payouts from open to signed, in every counter, in this order.

    Only the first signature counts: an entry that was signed before stays as it is.

    Raises:
        InvariantBroken: a payout was never admitted, or its entry was given back.
    """
    if not transfer_ids:
        return
    names = list(transfer_ids)
    entries = {row.transfer_id: row for row in unit.execute(_ENTRIES, {"ids": names})}
    opened = [entries[each] for each in names if _is_open(entries.get(each), each)]
    lines_of = unit.execute(_COUNTED, {"ids": names}).all()
    counters = _lock(unit, {(row.policy_id, row.scope_key) for row in lines_of})
    counted: dict[str, list[_Counter]] = {}
    for row in lines_of:
        counted.setdefault(row.transfer_id, []).append(counters[row.policy_id, row.scope_key])
    newest: Instant = unit.execute(_NEWEST).scalar_one() or 0
    lines: list[dict[str, Any]] = []
    signed: list[dict[str, Any]] = []
    for entry in opened:
        mine, this = counted.get(entry.transfer_id, []), entry_of(entry.value)
        newest = next_instant(now, max([newest, *(each.last_at for each in mine)]))
        for counter in mine:
            counter.last_at, counter.open = newest, counter.open.minus(this)
            counter.signed = total = counter.signed.plus(this)
            totals = {"total_value": total.value, "total_count": total.count, "total_unknown": total.unknown}
            at = {"of_transfer": entry.transfer_id, "state": "signed", "signed_at": newest}
            lines.append({**counter.key, **at, **totals})
        signed.append({"of_transfer": entry.transfer_id, "state": "signed", "signed_at": newest})
    touched = [each.columns() for each in counters.values()]
    for statement, rows in ((_WRITE_COUNTERS, touched), (_SIGN_COUNTED, lines), (_WRITE_ENTRIES, signed)):
        if opened:
            statement.run(unit, rows)


def _lock(unit: Unit, names: set[tuple[str, str]]) -> dict[tuple[str, str], _Counter]:
    """Read and lock counters, in their order, before anything is written."""
    keys: dict[str, list[str]] = {}
    for policy_id, key in sorted(names):
        keys.setdefault(policy_id, []).append(key)
    return {
        (row.policy_id, row.scope_key): _Counter(row)
        for policy_id, mine in keys.items()
        for row in unit.execute(_COUNTERS, {"policy_id": policy_id, "keys": mine})
    }


def _is_open(entry: sa.Row[Any] | None, transfer_id: str) -> bool:
    if entry is None:
        raise InvariantBroken(f"transfer {transfer_id} has no velocity entry")
    if entry.state in ("signed", "corrected") and entry.signed_at is not None:
        return False
    if entry.state != "open":
        raise InvariantBroken(f"transfer {transfer_id} was signed after its entry was {entry.state}")
    return True
