"""Payouts and batches of them in our own words."""

from collections.abc import Sequence
from typing import Any

from outlay.actions.present import only_given
from outlay.config import Config
from outlay.core.event import iso
from outlay.core.money import VALUE_UNIT
from outlay.store import batches
from outlay.store.database import Row, Unit


def payout(row: Row, config: Config) -> dict[str, Any]:
    """Return a payout: what was asked for, where it stands, and why."""
    asset = config.find_asset(row.network, row.asset)
    when = {
        "dateRequested": row.requested_at,
        "dateReady": row.ready_at,
        "dateBroadcasted": row.broadcast_at,
        "dateConfirmed": row.confirmed_at,
    }
    return only_given(
        id=row.id,
        externalId=row.external_id,
        state=str(row.state),
        reason=row.reason,
        waitingReason=row.waiting_reason,
        flag=row.flag,
        delayedSince=None if row.delayed_at is None else iso(row.delayed_at),
        walletId=row.wallet_id,
        poolId=row.pool_id,
        batchId=row.batch_id,
        network=row.network,
        asset=row.asset,
        symbol=asset.symbol if asset else None,
        decimals=asset.decimals if asset else None,
        recipient=row.recipient,
        amount=str(row.amount),
        memo=row.intent.get("memo") or None,
        priority=row.intent["priority"],
        valueUsd=None if row.value is None else dollars(row.value),
        initiatorId=row.initiator_id,
        approvalId=row.approval_id,
        txHash=row.tx_hash,
        fee=None if row.fee is None else str(row.fee),
        **{name: None if instant is None else iso(instant) for name, instant in when.items()},
    )


def dollars(value: int) -> str:
    """Return a value in dollars, exactly, with the eight places it is kept with."""
    whole, part = divmod(value, VALUE_UNIT)
    return f"{whole}.{part:08d}"


def batch_now(unit: Unit, row: Row, config: Config) -> dict[str, Any]:
    """Return a batch with its payouts as they stand now."""
    paid = batches.called(unit, [external_id for external_id, error in row.items if error is None])
    found = [paid.get(external_id) if error is None else None for external_id, error in row.items]
    return batch(row, [None if each is None else payout(each, config) for each in found])


def batch(row: Row, payouts: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """Return a batch and, item by item in their order, the payout or why there is none."""
    items = [
        {"externalId": external_id, "error": error} if paid is None else {"externalId": external_id, "payout": paid}
        for (external_id, error), paid in zip(row.items, payouts, strict=True)
    ]
    return {
        "id": row.id,
        "digest": row.digest,
        "initiatorId": row.initiator_id,
        "dateCreated": iso(row.created_at),
        "count": len(items),
        "refused": sum(each is None for each in payouts),
        "items": items,
    }
