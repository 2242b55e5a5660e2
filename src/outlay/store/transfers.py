"""Transfers, their transitions and the evaluations that judged them."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken, NotFound
from outlay.core.transfer import ENDS, Event, State, next_state
from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import evaluation, transaction, transfer, transition

_ADD = sa.insert(transfer).returning(transfer)
_FIND = sa.select(transfer).where(transfer.c.id == sa.bindparam("id"))
_FIND_BY_EXTERNAL_ID = sa.select(transfer).where(transfer.c.external_id == sa.bindparam("external_id"))
_IN_STATE = (
    sa.select(transfer)
    .where(transfer.c.state == sa.bindparam("state"))
    .order_by(transfer.c.ready_at, transfer.c.id)
    .limit(sa.bindparam("most"))
)
_OF_WALLET_IN_STATE = _IN_STATE.where(transfer.c.wallet_id == sa.bindparam("wallet_id"))
_WITH_READY = (
    sa.select(
        transfer.c.wallet_id,
        sa.func.max(sa.case((transfer.c.waiting_reason.is_(None), 1), else_=0)).label("fresh"),
    )
    .where(transfer.c.state == State.READY)
    .group_by(transfer.c.wallet_id)
)
_CHANGE = sa.update(transfer).where(transfer.c.id == sa.bindparam("of_id"))
_ADVANCE = _CHANGE.where(
    transfer.c.version == sa.bindparam("read_version"), transfer.c.state == sa.bindparam("read_state")
).returning(transfer)
_ADD_TRANSITION = sa.insert(transition)
_ADD_EVALUATIONS = sa.insert(evaluation)
_EVALUATIONS = (
    sa.select(evaluation)
    .where(evaluation.c.transfer_id == sa.bindparam("transfer_id"))
    .order_by(evaluation.c.at, evaluation.c.policy_id)
)
_EVALUATIONS_AT = _EVALUATIONS.where(evaluation.c.moment == sa.bindparam("moment"))


def add(unit: Unit, **values: Any) -> sa.Row[Any]:
    """Insert a transfer in state requested, version 1, and return it."""
    return unit.execute(_ADD, {**values, "state": State.REQUESTED, "version": 1}).one()


def find(unit: Unit, transfer_id: str) -> sa.Row[Any] | None:
    """Return the transfer, or None."""
    return unit.execute(_FIND, {"id": transfer_id}).one_or_none()


def get(unit: Unit, transfer_id: str) -> sa.Row[Any]:
    """Return the transfer.

    Raises:
        NotFound: there is none.
    """
    row = find(unit, transfer_id)
    if row is None:
        raise NotFound("no such transfer")
    return row


def find_by_external_id(unit: Unit, external_id: str) -> sa.Row[Any] | None:
    """Return the transfer that holds ``external_id``, or None."""
    return unit.execute(_FIND_BY_EXTERNAL_ID, {"external_id": external_id}).one_or_none()


def list_page(
    unit: Unit, wallet_id: str, *, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of a wallet's transfers."""
    query = sa.select(transfer).where(transfer.c.wallet_id == wallet_id)
    return page(unit, query, order=transfer.c.requested_at, key=transfer.c.id, limit=limit, token=token)


def confirmed_page(
    unit: Unit, wallet_id: str, *, kind: str | None, asset: str | None, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of what a wallet paid, newest first; each row also has the ``block_number`` it is in.

    Args:
        unit: the database unit.
        wallet_id: the payer.
        kind: only ``Native`` or ``Erc20``; None for both.
        asset: only this asset, as ``transfer.asset`` spells it; None for all.
        limit: rows at most.
        token: of the page before.
    """
    query = (
        sa.select(transfer, transaction.c.block_number)
        .join(transaction, transaction.c.id == transfer.c.transaction_id)
        .where(transfer.c.wallet_id == wallet_id, transfer.c.state == State.CONFIRMED)
    )
    if kind is not None:
        query = query.where(transfer.c.kind == kind)
    if asset is not None:
        query = query.where(transfer.c.asset == asset)
    return page(unit, query, order=transfer.c.confirmed_at, key=transfer.c.id, limit=limit, token=token)


def in_state(unit: Unit, state: State, *, limit: int, wallet_id: str | None = None) -> Sequence[sa.Row[Any]]:
    """Return transfers in ``state``, longest ready first."""
    if wallet_id is None:
        return unit.execute(_IN_STATE, {"state": state, "most": limit}).all()
    return unit.execute(_OF_WALLET_IN_STATE, {"state": state, "most": limit, "wallet_id": wallet_id}).all()


def ready_of(unit: Unit, wallet_id: str, *, limit: int) -> list[sa.Row[Any]]:
    """Return a wallet's ready transfers, longest ready first: up to ``limit`` of each asset, new ones before others.

    So that what waits for one asset's funds never hides what another asset could pay, or what just arrived.
    """
    mine = sa.and_(transfer.c.wallet_id == wallet_id, transfer.c.state == State.READY)
    found: list[sa.Row[Any]] = []
    for asset in unit.execute(sa.select(transfer.c.asset).where(mine).distinct()).scalars():
        query = sa.select(transfer).where(mine, transfer.c.asset == asset)
        order = (transfer.c.waiting_reason.is_not(None), transfer.c.ready_at, transfer.c.id)
        found += unit.execute(query.order_by(*order).limit(limit))
    return sorted(found, key=lambda row: (row.ready_at, row.id))


def wallets_with_ready(unit: Unit) -> dict[str, bool]:
    """Return the ids of wallets that have a transfer to send, and whether one of them has no reason to wait yet."""
    return {row.wallet_id: bool(row.fresh) for row in unit.execute(_WITH_READY)}


def advance(
    unit: Unit,
    row: sa.Row[Any],
    event: Event,
    *,
    now: int,
    detail: Mapping[str, Any] | None = None,
    **values: Any,
) -> sa.Row[Any]:
    """Move a transfer along the table, guarded by the version ``row`` was read at, and keep the audit entry.

    Raises:
        IllegalTransition: the state does not accept the event.
        InvariantBroken: the row changed since it was read (one writer, so this is our fault).
    """
    before = State(row.state)
    after = next_state(before, event, transfer_id=row.id)
    ended = {"ended_from": before} if after in ENDS else {}
    guard = {"of_id": row.id, "read_version": row.version, "read_state": before}
    changed = unit.execute(
        _ADVANCE, {**guard, **ended, **values, "state": after, "version": row.version + 1}
    ).one_or_none()
    if changed is None:
        raise InvariantBroken(f"transfer {row.id} changed underneath")
    unit.execute(
        _ADD_TRANSITION,
        {
            "transfer_id": row.id,
            "seq": row.version,
            "event": event,
            "from_state": before,
            "to_state": after,
            "detail": dict(detail) if detail else None,
            "at": now,
        },
    )
    return changed


def annotate(unit: Unit, transfer_id: str, **values: Any) -> None:
    """Change columns that are not the state, such as the reason a transfer waits for."""
    unit.execute(_CHANGE, {"of_id": transfer_id, **values})


def transitions(unit: Unit, transfer_id: str) -> Sequence[sa.Row[Any]]:
    """Return the transfer's audit entries in order."""
    return unit.execute(
        sa.select(transition).where(transition.c.transfer_id == transfer_id).order_by(transition.c.seq)
    ).all()


def add_evaluations(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what policies said about a transfer."""
    if rows:
        unit.execute(_ADD_EVALUATIONS, rows)


def evaluations(unit: Unit, transfer_id: str, *, moment: str | None = None) -> Sequence[sa.Row[Any]]:
    """Return the evaluations of a transfer, oldest first."""
    if moment is None:
        return unit.execute(_EVALUATIONS, {"transfer_id": transfer_id}).all()
    return unit.execute(_EVALUATIONS_AT, {"transfer_id": transfer_id, "moment": moment}).all()


def ready_before(unit: Unit, instant: int, *, limit: int) -> Sequence[sa.Row[Any]]:
    """Return transfers that have been ready since before ``instant``."""
    return unit.execute(
        sa.select(transfer)
        .where(transfer.c.state == State.READY, transfer.c.ready_at <= instant)
        .order_by(transfer.c.ready_at)
        .limit(limit)
    ).all()
