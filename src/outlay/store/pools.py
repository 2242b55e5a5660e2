"""Pools: wallets of one network that share a tag, and the payouts that wait for one of them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.pool import Route
from outlay.core.transfer import State
from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import account, attempt, lane, pool, transaction, transfer, wallet, wallet_tag

ACTIVE, ARCHIVED = "Active", "Archived"

_FIND = sa.select(pool).where(pool.c.id == sa.bindparam("id"))
_WITH_WORK = (
    sa.select(pool)
    .where(sa.exists(sa.select(transfer.c.id).where(transfer.c.pool_id == pool.c.id, transfer.c.state == State.READY)))
    .order_by(pool.c.id)
)
_MEMBERS = (
    sa.select(wallet, wallet_tag.c.since)
    .join(wallet_tag, sa.and_(wallet_tag.c.wallet_id == wallet.c.id, wallet_tag.c.tag == sa.bindparam("tag")))
    .where(wallet.c.network == sa.bindparam("network"), wallet.c.chain_id == sa.bindparam("chain_id"))
    .order_by(wallet.c.id)
)
_LANES = sa.select(lane).where(lane.c.wallet_id.in_(sa.bindparam("ids", expanding=True)))
_SPENDABLE = sa.select(account.c.owner, account.c.asset, account.c.debits, account.c.credits).where(
    account.c.owner.in_(sa.bindparam("ids", expanding=True)), account.c.kind == "spendable"
)
_OLDEST_SENT = (
    sa.select(transaction.c.wallet_id, sa.func.min(transaction.c.nonce).label("nonce"))
    .where(transaction.c.state == "sent", transaction.c.wallet_id.in_(sa.bindparam("ids", expanding=True)))
    .group_by(transaction.c.wallet_id)
    .subquery()
)
_SENT_AT = (
    sa.select(transaction.c.wallet_id, attempt.c.first_sent_at)
    .join(
        _OLDEST_SENT,
        sa.and_(_OLDEST_SENT.c.wallet_id == transaction.c.wallet_id, _OLDEST_SENT.c.nonce == transaction.c.nonce),
    )
    .join(attempt, sa.and_(attempt.c.transaction_id == transaction.c.id, attempt.c.number == 1))
)
_READY = sa.and_(transfer.c.pool_id == sa.bindparam("pool_id"), transfer.c.state == State.READY)
_OF_ROUTE = sa.and_(_READY, transfer.c.route == sa.bindparam("of_route"))
_ORDER = (transfer.c.ready_at, transfer.c.id)
# Only what the router looks at: it looks often, and at many.
_SEEN = sa.select(
    *(
        transfer.c[name]
        for name in (
            *("id", "wallet_id", "pool_seq", "route", "network", "asset", "amount", "waiting_reason"),
            *("approval_id", "flag", "flow", "level", "ready_at"),
        )
    )
)
# Spelled out, for so is the condition of the index ``transfer_in_queue``.
_IN_QUEUE = sa.and_(
    transfer.c.pool_id == sa.bindparam("pool_id"), sa.text("transfer.state = 'ready' AND transfer.route = 'queue'")
)
_FLOW = sa.tuple_(transfer.c.flow, transfer.c.level)
_NEXT_FLOW = (
    sa.select(transfer.c.flow, transfer.c.level)
    .where(
        _IN_QUEUE,
        sa.tuple_(sa.bindparam("flow", type_=sa.Text), sa.bindparam("level", type_=sa.Integer)) < _FLOW,
    )
    .order_by(transfer.c.flow, transfer.c.level)
    .limit(1)
)
_OF_FLOW = (
    _SEEN.where(_IN_QUEUE, transfer.c.flow == sa.bindparam("flow"), transfer.c.level == sa.bindparam("level"))
    .order_by(transfer.c.ready_at, transfer.c.id)
    .limit(sa.bindparam("most"))
)
_FROM_HEAD = _SEEN.where(_OF_ROUTE).order_by(*_ORDER).limit(sa.bindparam("most"))
_AFTER = _FROM_HEAD.where(
    sa.tuple_(*_ORDER)
    > sa.tuple_(sa.bindparam("after_at", type_=sa.BigInteger), sa.bindparam("after_id", type_=sa.Text))
)
# By way of the pools: lanes may hold far more that names a wallet.
_OF_POOLS = transfer.c.pool_id.in_(sa.select(pool.c.id).where(pool.c.network == sa.bindparam("network")))
_IN_LANES = (
    sa.select(transfer.c.wallet_id, sa.func.count().label("found"))
    .where(
        _OF_POOLS,
        transfer.c.state == State.READY,
        transfer.c.route == Route.LANE,
        transfer.c.waiting_reason.is_(None),
    )
    .group_by(transfer.c.wallet_id)
)
_DEPTHS = (
    sa.select(
        transfer.c.route,
        sa.func.count().label("found"),
        sa.func.min(transfer.c.ready_at).label("oldest"),
    )
    .where(_READY)
    .group_by(transfer.c.route)
)
# Spelled out, for so are the conditions of the indexes ``transfer_to_send`` and ``transfer_put_off``.
_READY_IN_LANES = [
    sa.select(transfer.c.wallet_id, sa.func.count().label("found"), sa.func.min(transfer.c.ready_at).label("oldest"))
    .where(
        sa.text(f"transfer.state = 'ready' AND transfer.route = 'lane' AND transfer.waiting_reason {is_what} NULL"),
        transfer.c.wallet_id.in_(sa.bindparam("ids", expanding=True)),
    )
    .group_by(transfer.c.wallet_id)
    for is_what in ("IS", "IS NOT")
]
_MOVE = sa.update(transfer).where(
    transfer.c.id == sa.bindparam("of_id"),
    transfer.c.state == State.READY,
    transfer.c.transaction_id.is_(None),
    transfer.c.wallet_id == sa.bindparam("of_wallet"),
    transfer.c.route == sa.bindparam("of_route"),
)


def add(unit: Unit, **values: Any) -> None:
    """Insert a pool."""
    unit.execute(sa.insert(pool).values(**values))


def find(unit: Unit, pool_id: str) -> sa.Row[Any] | None:
    """Return the pool, archived ones included, or None."""
    return unit.execute(_FIND, {"id": pool_id}).one_or_none()


def archive(unit: Unit, pool_id: str) -> None:
    """Take a pool out of use."""
    unit.execute(sa.update(pool).where(pool.c.id == pool_id).values(status=ARCHIVED))


def list_page(unit: Unit, *, limit: int | None, token: str | None) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of pools."""
    return page(unit, sa.select(pool), order=pool.c.created_at, key=pool.c.id, limit=limit, token=token)


def with_work(unit: Unit) -> Sequence[sa.Row[Any]]:
    """Return the pools that have ready payouts, archived ones included."""
    return unit.execute(_WITH_WORK).all()


def members(unit: Unit, of_pool: sa.Row[Any]) -> Sequence[sa.Row[Any]]:
    """Return the wallets of a pool by their tags of now, ordered by id; ``since`` which record each is in."""
    place = {"network": of_pool.network, "chain_id": of_pool.chain_id, "tag": of_pool.tag}
    return unit.execute(_MEMBERS, place).all()


# What wallets can take


def in_flight(unit: Unit, wallet_ids: Collection[str]) -> dict[str, int]:
    """Return how many slots of each lane are not settled; a wallet without a lane is left out."""
    rows = unit.execute(_LANES, {"ids": sorted(wallet_ids)})
    return {row.wallet_id: row.next_nonce - row.settled_nonce for row in rows}


def spendable(unit: Unit, wallet_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return what each wallet may still spend, base units by asset."""
    found: dict[str, dict[str, int]] = {each: {} for each in wallet_ids}
    for row in unit.execute(_SPENDABLE, {"ids": sorted(wallet_ids)}):
        found[row.owner][row.asset] = row.debits - row.credits
    return found


def oldest_sent(unit: Unit, wallet_ids: Collection[str]) -> dict[str, int]:
    """Return when the lowest nonce of each wallet that is sent and not mined was sent first."""
    rows = unit.execute(_SENT_AT, {"ids": sorted(wallet_ids)})
    return {row.wallet_id: row.first_sent_at for row in rows if row.first_sent_at is not None}


def in_lanes(unit: Unit, network: str) -> dict[str, int]:
    """Return by wallet how many payouts of a network's pools wait in its lane for nothing but a slot."""
    return {row.wallet_id: row.found for row in unit.execute(_IN_LANES, {"network": network})}


def ready_in_lanes(unit: Unit, wallet_ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return how many payouts wait in each lane, whatever for, and since when the oldest is ready."""
    found: dict[str, tuple[int, int]] = {}
    for query in _READY_IN_LANES:
        for row in unit.execute(query, {"ids": sorted(wallet_ids)}):
            count, oldest = found.get(row.wallet_id, (0, row.oldest))
            found[row.wallet_id] = (count + row.found, min(oldest, row.oldest))
    return found


def depths(unit: Unit, pool_id: str) -> dict[str, tuple[int, int]]:
    """Return by route how many payouts of a pool are ready, and since when the oldest is."""
    return {row.route: (row.found, row.oldest) for row in unit.execute(_DEPTHS, {"pool_id": pool_id})}


# The queue


Flow = tuple[str, int]
"""Payouts in a pool's queue that differ only in how long they have been ready: flow and level of ``core.turns``."""
FIRST: Flow = ("", -1)
"""Before every flow."""


def flows(unit: Unit, pool_id: str, *, after: Flow = FIRST, limit: int) -> list[Flow]:
    """Return up to ``limit`` flows of a pool's queue that come after one, in their order."""
    found: list[Flow] = []
    while len(found) < limit:
        row = unit.execute(_NEXT_FLOW, {"pool_id": pool_id, "flow": after[0], "level": after[1]}).first()
        if row is None:
            break
        after = (row.flow, row.level)
        found.append(after)
    return found


def of_flow(unit: Unit, pool_id: str, flow: Flow, *, limit: int) -> Sequence[sa.Row[Any]]:
    """Return the payouts of a flow in a pool's queue, longest ready first."""
    return unit.execute(_OF_FLOW, {"pool_id": pool_id, "flow": flow[0], "level": flow[1], "most": limit}).all()


def queued(
    unit: Unit, pool_id: str, route: Route, *, limit: int, after: tuple[int, str] | None = None
) -> Sequence[sa.Row[Any]]:
    """Return ready payouts of a pool by where they stand, longest ready first.

    Args:
        unit: the database unit.
        pool_id: the pool.
        route: where they stand.
        limit: how many at most.
        after: ``ready_at`` and id of the last one that was looked at.
    """
    values: dict[str, Any] = {"pool_id": pool_id, "of_route": route, "most": limit}
    if after is None:
        return unit.execute(_FROM_HEAD, values).all()
    return unit.execute(_AFTER, {**values, "after_at": after[0], "after_id": after[1]}).all()


def move(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Write where payouts stand and why they wait; return whether all of them still stood where they were read.

    Args:
        unit: the database unit.
        rows: ``of_id``, ``of_wallet``, ``of_route`` as they were read, and ``wallet_id``, ``route``, ``waiting_reason``
            as they are to be.
    """
    return not rows or unit.execute(_MOVE, list(rows)).rowcount == len(rows)
