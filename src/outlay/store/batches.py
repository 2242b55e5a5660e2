"""Batches of payouts, and pages over payouts of every kind."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.store.database import Row, Unit
from outlay.store.paging import page
from outlay.store.schema import approval, batch, decision, transfer

_FIND = sa.select(batch).where(batch.c.id == sa.bindparam("id"))
_FIND_SAME = sa.select(batch).where(
    batch.c.initiator_id == sa.bindparam("initiator_id"), batch.c.digest == sa.bindparam("digest")
)
_CALLED = sa.select(transfer).where(transfer.c.external_id.in_(sa.bindparam("names", expanding=True)))
_IDS = sa.select(transfer).where(transfer.c.id.in_(sa.bindparam("names", expanding=True)))

_EQUAL = {
    "state": transfer.c.state,
    "wallet_id": transfer.c.wallet_id,
    "pool_id": transfer.c.pool_id,
    "batch_id": transfer.c.batch_id,
    "external_id": transfer.c.external_id,
    "asset": transfer.c.asset,
    "recipient": transfer.c.recipient,
    "initiator_id": transfer.c.initiator_id,
}


def add(unit: Unit, **values: Any) -> None:
    """Insert a batch."""
    unit.execute(sa.insert(batch).values(**values))


def replace_items(unit: Unit, batch_id: str, items: Sequence[Any]) -> None:
    """Note anew which items were refused."""
    unit.execute(sa.update(batch).where(batch.c.id == batch_id).values(items=items))


def find(unit: Unit, batch_id: str) -> Row | None:
    """Return the batch, or None."""
    return unit.execute(_FIND, {"id": batch_id}).one_or_none()


def find_same(unit: Unit, *, initiator_id: str, digest: str) -> Row | None:
    """Return the batch of these items that the same one asked for before, or None."""
    return unit.execute(_FIND_SAME, {"initiator_id": initiator_id, "digest": digest}).one_or_none()


def called(unit: Unit, external_ids: Sequence[str]) -> dict[str, Row]:
    """Return the transfers with these external ids, by them."""
    return {row.external_id: row for row in unit.execute(_CALLED, {"names": list(external_ids)})}


def transfers_of(unit: Unit, transfer_ids: Sequence[str]) -> dict[str, Row]:
    """Return transfers by their ids."""
    return {row.id: row for row in unit.execute(_IDS, {"names": list(transfer_ids)})}


def waiting(unit: Unit, batch_id: str, *, not_decided_by: str) -> list[tuple[Row, str]]:
    """Return the pending approvals of a batch that a user has not decided about, with the intents they are about.

    A decision about other groups than are asked now is none. In the order of the transfers' ids.
    """
    mine = sa.exists().where(
        decision.c.approval_id == approval.c.id,
        decision.c.user_id == not_decided_by,
        decision.c.groups_digest == approval.c.groups_digest,
    )
    query = (
        sa.select(approval, transfer.c.intent_digest)
        .join(transfer, transfer.c.id == approval.c.transfer_id)
        .where(transfer.c.batch_id == batch_id, approval.c.status == "Pending", ~mine)
        .order_by(transfer.c.id)
    )
    return [(row, row.intent_digest) for row in unit.execute(query)]


def payout_page(
    unit: Unit,
    filters: Mapping[str, str | None],
    *,
    since: int | None,
    until: int | None,
    delayed: bool | None,
    limit: int | None,
    token: str | None,
) -> tuple[Sequence[Row], str | None]:
    """Return one page of payouts, newest first.

    Args:
        unit: the unit.
        filters: column to the value it must have; None for any.
        since: requested at or after this instant.
        until: requested before this instant.
        delayed: only those that are late, or only those that are not.
        limit: rows at most.
        token: of the page before.
    """
    query = sa.select(transfer)
    for name, value in filters.items():
        if value is not None:
            query = query.where(_EQUAL[name] == value)
    if since is not None:
        query = query.where(transfer.c.requested_at >= since)
    if until is not None:
        query = query.where(transfer.c.requested_at < until)
    if delayed is not None:
        # Spelled out where it is the condition of the index ``transfer_delayed``.
        query = query.where(sa.text("transfer.delayed_at IS NOT NULL") if delayed else transfer.c.delayed_at.is_(None))
    return page(unit, query, order=transfer.c.requested_at, key=transfer.c.id, limit=limit, token=token)
