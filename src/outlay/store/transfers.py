"""Transfers, their transitions and the evaluations that judged them."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken, NotFound
from outlay.core.transfer import ENDS, Event, State, next_state
from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import evaluation, transfer, transition


def add(unit: Unit, **values: Any) -> None:
    """Insert a transfer in state requested, version 1."""
    unit.execute(sa.insert(transfer).values(state=State.REQUESTED, version=1, **values))


def find(unit: Unit, transfer_id: str) -> sa.Row[Any] | None:
    """Return the transfer, or None."""
    return unit.execute(sa.select(transfer).where(transfer.c.id == transfer_id)).one_or_none()


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
    return unit.execute(sa.select(transfer).where(transfer.c.external_id == external_id)).one_or_none()


def list_page(
    unit: Unit, wallet_id: str, *, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of a wallet's transfers."""
    query = sa.select(transfer).where(transfer.c.wallet_id == wallet_id)
    return page(unit, query, order=transfer.c.requested_at, key=transfer.c.id, limit=limit, token=token)


def in_state(unit: Unit, state: State, *, limit: int, wallet_id: str | None = None) -> Sequence[sa.Row[Any]]:
    """Return transfers in ``state``, longest ready first."""
    query = sa.select(transfer).where(transfer.c.state == state)
    if wallet_id is not None:
        query = query.where(transfer.c.wallet_id == wallet_id)
    return unit.execute(query.order_by(transfer.c.ready_at, transfer.c.id).limit(limit)).all()


def wallets_with_ready(unit: Unit) -> dict[str, bool]:
    """Return the ids of wallets that have a transfer to send, and whether one of them has no reason to wait yet."""
    fresh = sa.func.max(sa.case((transfer.c.waiting_reason.is_(None), 1), else_=0)).label("fresh")
    query = sa.select(transfer.c.wallet_id, fresh).where(transfer.c.state == State.READY)
    return {row.wallet_id: bool(row.fresh) for row in unit.execute(query.group_by(transfer.c.wallet_id))}


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
    changed = unit.execute(
        sa.update(transfer)
        .where(transfer.c.id == row.id, transfer.c.version == row.version, transfer.c.state == before)
        .values(state=after, version=row.version + 1, **ended, **values)
    )
    if changed.rowcount != 1:
        raise InvariantBroken(f"transfer {row.id} changed underneath")
    unit.execute(
        sa.insert(transition).values(
            transfer_id=row.id,
            seq=row.version,
            event=event,
            from_state=before,
            to_state=after,
            detail=dict(detail) if detail else None,
            at=now,
        )
    )
    return get(unit, row.id)


def annotate(unit: Unit, transfer_id: str, **values: Any) -> None:
    """Change columns that are not the state, such as the reason a transfer waits for."""
    unit.execute(sa.update(transfer).where(transfer.c.id == transfer_id).values(**values))


def transitions(unit: Unit, transfer_id: str) -> Sequence[sa.Row[Any]]:
    """Return the transfer's audit entries in order."""
    return unit.execute(
        sa.select(transition).where(transition.c.transfer_id == transfer_id).order_by(transition.c.seq)
    ).all()


def add_evaluation(unit: Unit, **values: Any) -> None:
    """Keep one policy's answer about one transfer."""
    unit.execute(sa.insert(evaluation).values(**values))


def evaluations(unit: Unit, transfer_id: str, *, moment: str | None = None) -> Sequence[sa.Row[Any]]:
    """Return the evaluations of a transfer, oldest first."""
    query = sa.select(evaluation).where(evaluation.c.transfer_id == transfer_id)
    if moment is not None:
        query = query.where(evaluation.c.moment == moment)
    return unit.execute(query.order_by(evaluation.c.at, evaluation.c.policy_id)).all()


def ready_before(unit: Unit, instant: int, *, limit: int) -> Sequence[sa.Row[Any]]:
    """Return transfers that have been ready since before ``instant``."""
    return unit.execute(
        sa.select(transfer)
        .where(transfer.c.state == State.READY, transfer.c.ready_at <= instant)
        .order_by(transfer.c.ready_at)
        .limit(limit)
    ).all()
