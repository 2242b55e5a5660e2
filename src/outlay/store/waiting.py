"""Payouts that wait for room under their caps: a queue for each counter, in the order in which they were asked for.

A payout stands in the queue of every counter that was full when it was looked at, with the same place in each.
"""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.policy import Block, Policy, Velocity
from outlay.core.seams import Instant
from outlay.core.transfer import RESTORED
from outlay.core.velocity import Scope
from outlay.store.database import Row, Unit
from outlay.store.schema import transfer, waiting
from outlay.store.velocity import key_of

FREE = "free:"
"""Begins the key of a payout's own queue, where its policy lets nobody wait any more."""

_HEADS = (
    sa.select(waiting.c.policy_id, waiting.c.scope_key, sa.func.min(waiting.c.place).label("head"))
    .group_by(waiting.c.policy_id, waiting.c.scope_key)
    .having(sa.func.min(waiting.c.place) > sa.bindparam("after"))
    .order_by(sa.func.min(waiting.c.place))
    .limit(sa.bindparam("most"))
)
_QUEUE = (
    sa.select(waiting.c.place, waiting.c.transfer_id)
    .where(waiting.c.policy_id == sa.bindparam("policy_id"), waiting.c.scope_key == sa.bindparam("scope_key"))
    .order_by(waiting.c.place)
    .limit(sa.bindparam("most"))
)
_OF = sa.select(waiting).where(waiting.c.transfer_id == sa.bindparam("transfer_id"))
_FORGET = sa.delete(waiting).where(waiting.c.transfer_id.in_(sa.bindparam("ids", expanding=True)))
_ANY = sa.select(transfer.c.id).where(transfer.c.wait_place.is_not(None)).limit(1)
_OVERDUE = (
    sa.select(transfer)
    .where(transfer.c.wait_place.is_not(None), transfer.c.wait_until <= sa.bindparam("now"))
    # Of a restored copy nobody knows what became of it, until its program asks for it again.
    .where(sa.or_(transfer.c.flag.is_(None), transfer.c.flag != RESTORED))
    .order_by(transfer.c.wait_place)
    .limit(sa.bindparam("most"))
)


def any_waits(unit: Unit) -> bool:
    """Tell whether a payout waits for room."""
    return unit.execute(_ANY).first() is not None


def overdue(unit: Unit, *, now: Instant, limit: int) -> Sequence[Row]:
    """Return transfers whose time to wait is over, first asked for first."""
    return unit.execute(_OVERDUE, {"now": now, "most": limit}).all()


def heads(unit: Unit, *, after: int, limit: int) -> Sequence[Any]:
    """Return counters with a queue: policy_id, scope_key and head, its first place, those after ``after`` in order."""
    return unit.execute(_HEADS, {"after": after, "most": limit}).all()


def queue(unit: Unit, policy_id: str, key: str, *, limit: int) -> list[tuple[int, str]]:
    """Return the places and ids of the transfers that wait first in a counter's queue."""
    found = unit.execute(_QUEUE, {"policy_id": policy_id, "scope_key": key, "most": limit})
    return [(row.place, row.transfer_id) for row in found]


def counters_of(unit: Unit, transfer_id: str) -> set[tuple[str, str]]:
    """Return the counters, by policy id and scope key, in whose queues a transfer stands."""
    return {(row.policy_id, row.scope_key) for row in unit.execute(_OF, {"transfer_id": transfer_id})}


def join(unit: Unit, counters: Collection[tuple[str, str]], *, place: int, transfer_id: str) -> None:
    """Have a transfer stand in further queues, with the place it has."""
    if counters:
        row = {"place": place, "transfer_id": transfer_id}
        unit.execute(
            sa.insert(waiting),
            [{"policy_id": policy_id, "scope_key": key, **row} for policy_id, key in sorted(counters)],
        )


def forget(unit: Unit, transfer_ids: Collection[str]) -> None:
    """Take transfers out of all queues."""
    if transfer_ids:
        unit.execute(_FORGET, {"ids": sorted(transfer_ids)})


def set_free(unit: Unit, active: Collection[Policy]) -> None:
    """Give those a queue of their own who wait for a policy that lets nobody wait any more."""
    waits = [each.id for each in active if isinstance(each.action, Block) and each.action.wait is not None]
    gone = waiting.c.policy_id.not_in(waits), waiting.c.scope_key.not_like(f"{FREE}%")
    unit.execute(sa.update(waiting).where(*gone).values(scope_key=sa.literal(FREE) + waiting.c.transfer_id))


def sort_again(unit: Unit, policy: Policy) -> None:
    """Put those who wait for a policy into the queues of its counters as they are now, after an edit of its scope."""
    mine = waiting.c.policy_id == policy.id
    names = ("pool_id", "wallet_id", "recipient", "initiator_id")
    query = sa.select(waiting, *(transfer.c[name] for name in names))
    rows = unit.execute(query.join(transfer, transfer.c.id == waiting.c.transfer_id).where(mine)).all()
    if rows:
        unit.execute(sa.delete(waiting).where(mine))
        found = {(_key_now(policy, row), row.place, row.transfer_id) for row in rows}
        columns = ("scope_key", "place", "transfer_id")
        unit.execute(
            sa.insert(waiting),
            [{"policy_id": policy.id, **dict(zip(columns, each, strict=True))} for each in sorted(found)],
        )


def _key_now(policy: Policy, row: Row) -> str:
    """Return in which of a policy's counters a payout waits that waited in another one or the same."""
    if row.pool_id is None or not isinstance(policy.rule, Velocity) or policy.rule.scope is not Scope.WALLET:
        return key_of(policy, row)
    # Which wallets of its pool are full is found out when it is looked at next; until then it stands for itself.
    is_of_a_wallet = row.scope_key.startswith(f"{Scope.WALLET}:")
    return str(row.scope_key) if is_of_a_wallet else f"{FREE}{row.transfer_id}"
