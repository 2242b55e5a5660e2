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


def find(unit: Unit, wallet_id: str) -> sa.Row[Any] | None:
    """Return the lane of a wallet, or None before its first use."""
    return unit.execute(sa.select(lane).where(lane.c.wallet_id == wallet_id)).one_or_none()


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
    held = unit.execute(sa.update(lane).where(lane.c.wallet_id == wallet_id, lane.c.fence == fence).values(fence=fence))
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
    moved = unit.execute(
        sa.update(lane)
        .where(lane.c.wallet_id == wallet_id, lane.c.fence == fence, lane.c.next_nonce == nonce)
        .values(next_nonce=nonce + 1)
    )
    if moved.rowcount != 1:
        raise InvariantBroken(f"the lane of {wallet_id} was leased to another worker")
    unit.execute(sa.insert(transaction).values(wallet_id=wallet_id, nonce=nonce, state="bound", **values))
    return nonce


def settle(unit: Unit, *, wallet_id: str, nonce: int, block: int, fence: int) -> None:
    """Note that every nonce up to ``nonce`` is final and posted.

    Raises:
        InvariantBroken: it is not the next one, or the fence is stale.
    """
    moved = unit.execute(
        sa.update(lane)
        .where(lane.c.wallet_id == wallet_id, lane.c.fence == fence, lane.c.settled_nonce == nonce)
        .values(settled_nonce=nonce + 1, settled_block=block)
    )
    if moved.rowcount != 1:
        raise InvariantBroken(f"nonce {nonce} of {wallet_id} is not the next to settle")


def find_transaction(unit: Unit, transaction_id: str) -> sa.Row[Any] | None:
    """Return the transaction, or None."""
    return unit.execute(sa.select(transaction).where(transaction.c.id == transaction_id)).one_or_none()


def transactions(unit: Unit, wallet_id: str, *states: str, limit: int = 1000) -> Sequence[sa.Row[Any]]:
    """Return a wallet's transactions in the given states, lowest nonce first."""
    return unit.execute(
        sa.select(transaction)
        .where(transaction.c.wallet_id == wallet_id, transaction.c.state.in_(states))
        .order_by(transaction.c.nonce)
        .limit(limit)
    ).all()


def wallets_in_flight(unit: Unit) -> list[str]:
    """Return the ids of wallets with a transaction that is not final."""
    rows = unit.execute(sa.select(transaction.c.wallet_id).where(transaction.c.state.in_(UNSETTLED)).distinct())
    return [row.wallet_id for row in rows]


def change(unit: Unit, row: sa.Row[Any], state: str, **values: Any) -> None:
    """Move a transaction from the state it was read in to ``state``.

    Raises:
        InvariantBroken: it changed underneath.
    """
    changed = unit.execute(
        sa.update(transaction)
        .where(transaction.c.id == row.id, transaction.c.state == row.state)
        .values(state=state, **values)
    )
    if changed.rowcount != 1:
        raise InvariantBroken(f"transaction {row.id} changed underneath")


def touch(unit: Unit, transaction_id: str, **values: Any) -> None:
    """Change columns of a transaction that are not its state."""
    unit.execute(sa.update(transaction).where(transaction.c.id == transaction_id).values(**values))
