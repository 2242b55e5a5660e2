"""Lanes: each wallet's sequence of nonces, leased to one worker, and the transactions in it.

The row is the truth: ``UNIQUE(wallet_id, nonce)`` and the compare-and-set below are what keep two payouts from
one slot and one payout from two.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken, Unavailable
from outlay.store.database import Unit
from outlay.store.schema import lane, transaction

UNSETTLED = ("bound", "signed", "sent", "mined")

_FIND = sa.select(lane).where(lane.c.wallet_id == sa.bindparam("wallet_id"))
_AT_FENCE = sa.update(lane).where(
    lane.c.wallet_id == sa.bindparam("of_wallet"), lane.c.fence == sa.bindparam("at_fence")
)
_TAKE_NONCE = _AT_FENCE.where(lane.c.next_nonce == sa.bindparam("read_nonce"))
_SETTLE_NONCE = _AT_FENCE.where(lane.c.settled_nonce == sa.bindparam("read_nonce"))
_ADD_TRANSACTION = sa.insert(transaction)
_FIND_TRANSACTION = sa.select(transaction).where(transaction.c.id == sa.bindparam("id"))
_TRANSACTIONS = (
    sa.select(transaction)
    .where(
        transaction.c.wallet_id == sa.bindparam("wallet_id"),
        transaction.c.state.in_(sa.bindparam("states", expanding=True)),
    )
    .order_by(transaction.c.nonce)
    .limit(sa.bindparam("most"))
)
_IN_FLIGHT = sa.select(transaction.c.wallet_id).where(transaction.c.state.in_(UNSETTLED)).distinct()
_TOUCH = sa.update(transaction).where(transaction.c.id == sa.bindparam("of_id"))
_CHANGE = _TOUCH.where(transaction.c.state == sa.bindparam("read_state"))


def find(unit: Unit, wallet_id: str) -> sa.Row[Any] | None:
    """Return the lane of a wallet, or None before its first use."""
    return unit.execute(_FIND, {"wallet_id": wallet_id}).one_or_none()


def lease(unit: Unit, wallet_id: str, *, holder: str, first_nonce: int, now: int, until: int) -> int | None:
    """Take or renew the lane for ``holder``; return the fencing token, or None while somebody else holds it.

    Args:
        unit: the write unit.
        wallet_id: whose lane.
        holder: names the worker.
        first_nonce: the chain's next nonce, used when the lane is new.
        now: the current instant.
        until: when the lease runs out.
    """
    row = find(unit, wallet_id)
    if row is None:
        unit.execute(
            sa.insert(lane).values(
                wallet_id=wallet_id,
                next_nonce=first_nonce,
                settled_nonce=first_nonce,
                fence=1,
                holder=holder,
                leased_until=until,
            )
        )
        return 1
    if row.holder != holder and row.leased_until is not None and row.leased_until > now:
        return None
    fence: int = row.fence if row.holder == holder else row.fence + 1
    unit.execute(
        sa.update(lane)
        .where(lane.c.wallet_id == wallet_id, lane.c.fence == row.fence)
        .values(holder=holder, fence=fence, leased_until=until)
    )
    return fence


def release_all(unit: Unit) -> None:
    """End every lease. Only for who knows that no other worker lives; fences move on with the next lease."""
    unit.execute(sa.update(lane).values(leased_until=None))


def hold(unit: Unit, wallet_id: str, *, fence: int) -> None:
    """Refuse to go on with a lane that was leased to somebody else meanwhile.

    Raises:
        Unavailable: the fence is stale; nothing of this unit is kept, and its new holder goes on.
    """
    held = unit.execute(_AT_FENCE, {"of_wallet": wallet_id, "at_fence": fence, "fence": fence})
    if held.rowcount != 1:
        raise Unavailable(f"the lane of {wallet_id} was leased to another worker")


def bind(unit: Unit, *, wallet_id: str, fence: int, **values: Any) -> int:
    """Give the lane's next nonce to one transaction, once and for all; return the nonce.

    Raises:
        InvariantBroken: the lane moved or the fence is stale.
    """
    row = find(unit, wallet_id)
    if row is None:
        raise InvariantBroken(f"no lane for {wallet_id}")
    nonce: int = row.next_nonce
    guard = {"of_wallet": wallet_id, "at_fence": fence, "read_nonce": nonce}
    moved = unit.execute(_TAKE_NONCE, {**guard, "next_nonce": nonce + 1})
    if moved.rowcount != 1:
        raise InvariantBroken(f"the lane of {wallet_id} was leased to another worker")
    unit.execute(_ADD_TRANSACTION, {**values, "wallet_id": wallet_id, "nonce": nonce, "state": "bound"})
    return nonce


def settle(unit: Unit, *, wallet_id: str, nonce: int, block: int, fence: int) -> None:
    """Note that every nonce up to ``nonce`` is final and posted.

    Raises:
        InvariantBroken: it is not the next one, or the fence is stale.
    """
    guard = {"of_wallet": wallet_id, "at_fence": fence, "read_nonce": nonce}
    moved = unit.execute(_SETTLE_NONCE, {**guard, "settled_nonce": nonce + 1, "settled_block": block})
    if moved.rowcount != 1:
        raise InvariantBroken(f"nonce {nonce} of {wallet_id} is not the next to settle")


def find_transaction(unit: Unit, transaction_id: str) -> sa.Row[Any] | None:
    """Return the transaction, or None."""
    return unit.execute(_FIND_TRANSACTION, {"id": transaction_id}).one_or_none()


def transactions(unit: Unit, wallet_id: str, *states: str, limit: int = 1000) -> Sequence[sa.Row[Any]]:
    """Return a wallet's transactions in the given states, lowest nonce first."""
    return unit.execute(_TRANSACTIONS, {"wallet_id": wallet_id, "states": states, "most": limit}).all()


def wallets_in_flight(unit: Unit) -> list[str]:
    """Return the ids of wallets with a transaction that is not final."""
    return [row.wallet_id for row in unit.execute(_IN_FLIGHT)]


def change(unit: Unit, row: sa.Row[Any], state: str, **values: Any) -> None:
    """Move a transaction from the state it was read in to ``state``.

    Raises:
        InvariantBroken: it changed underneath.
    """
    changed = unit.execute(_CHANGE, {"of_id": row.id, "read_state": row.state, **values, "state": state})
    if changed.rowcount != 1:
        raise InvariantBroken(f"transaction {row.id} changed underneath")


def touch(unit: Unit, transaction_id: str, **values: Any) -> None:
    """Change columns of a transaction that are not its state."""
    unit.execute(_TOUCH, {"of_id": transaction_id, **values})
