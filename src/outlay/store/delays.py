"""Payouts that stay in a stage, the few that were found to be late, and lanes that were told to be stuck."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Unit
from outlay.store.schema import lane, transfer, transition

FIRST: tuple[int, str] = (-1, "")
"""Before every payout of a stage."""

# Every change of a state has an entry of its own, numbered by the version before it.
_SINCE = sa.and_(transition.c.transfer_id == transfer.c.id, transition.c.seq == transfer.c.version - 1)
_STAYS = (
    sa.select(
        transfer.c.id,
        transfer.c.version,
        transfer.c.network,
        transfer.c.flag,
        transfer.c.ready_at,
        transfer.c.delayed_at,
        sa.func.coalesce(transition.c.at, transfer.c.ready_at).label("since"),
    )
    .join(transition, _SINCE, isouter=True)
    .where(
        transfer.c.state == sa.bindparam("state"),
        transfer.c.ready_at <= sa.bindparam("ready_before"),
        sa.tuple_(transfer.c.ready_at, transfer.c.id)
        > sa.tuple_(sa.bindparam("after_at", type_=sa.BigInteger), sa.bindparam("after_id", type_=sa.Text)),
    )
    .order_by(transfer.c.ready_at, transfer.c.id)
    .limit(sa.bindparam("most"))
)
_MARK = sa.update(transfer).where(
    transfer.c.id == sa.bindparam("of_id"),
    transfer.c.version == sa.bindparam("read_version"),
    transfer.c.delayed_at.is_(None),
)
_STUCK = sa.select(lane.c.wallet_id, lane.c.stuck_nonce).where(lane.c.stuck_nonce.is_not(None))
_STICK = sa.update(lane).where(lane.c.wallet_id == sa.bindparam("of_wallet"))


def staying(unit: Unit, state: str, *, ready_before: int, after: tuple[int, str] = FIRST, limit: int) -> Sequence[Any]:
    """Return payouts in a state, longest allowed first.

    Each has id, version, network, flag, ``ready_at``, ``delayed_at``, and ``since``: when it came into this state.

    Args:
        unit: the database unit.
        state: which.
        ready_before: only those that were allowed by then.
        after: (``ready_at``, id) to begin behind.
        limit: how many at most.
    """
    place = {"after_at": after[0], "after_id": after[1]}
    return unit.execute(_STAYS, {"state": state, "ready_before": ready_before, **place, "most": limit}).all()


def mark(unit: Unit, transfer_id: str, *, version: int, now: int) -> bool:
    """Note that a payout is late; return False if it has moved on, or was noted before."""
    marked = unit.execute(_MARK, {"of_id": transfer_id, "read_version": version, "delayed_at": now})
    return bool(marked.rowcount)


def stuck(unit: Unit) -> dict[str, int]:
    """Return the wallets that were told to be stuck, each with the nonce that did not move."""
    return {row.wallet_id: row.stuck_nonce for row in unit.execute(_STUCK)}


def stick(unit: Unit, wallet_id: str, nonce: int | None) -> None:
    """Note which nonce of a wallet was told to be stuck; None: it moves."""
    unit.execute(_STICK, {"of_wallet": wallet_id, "stuck_nonce": nonce})
