"""Mandates of recurring payouts: how far their calendars were followed, and their runs."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core import ids
from outlay.core.recurring import Recurring, parse_recurring
from outlay.core.seams import Instant
from outlay.core.transfer import RESTORED, State
from outlay.store.database import Row, Unit
from outlay.store.mandates import ACTIVE
from outlay.store.paging import page
from outlay.store.schema import mandate, transfer
from outlay.store.schema_recurring import mandate_run, schedule

DUE, MADE, MISSED = "Due", "Made", "Missed"

_SOME = 100
"""Mandates, or runs, that are read at once."""

_IS_RECURRING = mandate.c.id.startswith(f"{ids.SCHEDULE}-", autoescape=True)
_PAID_BY_ONE = transfer.c.mandate_id.startswith(f"{ids.SCHEDULE}-", autoescape=True)


def mandate_of(row: Row) -> Recurring:
    """Return the mandate a row holds."""
    return parse_recurring(row.document, id=row.id)


# Mandates


def to_follow(unit: Unit, *, now: Instant) -> Sequence[Row]:
    """Return some of the mandates in force that have something due, those never looked at included.

    Each has ``next_on`` and ``next_at``, the first None where its calendar was not followed yet.
    """
    query = (
        sa.select(mandate, schedule.c.next_on, schedule.c.next_at)
        .outerjoin(schedule, schedule.c.mandate_id == mandate.c.id)
        .where(mandate.c.status == ACTIVE, _IS_RECURRING)
        .where(sa.or_(schedule.c.mandate_id.is_(None), schedule.c.next_at <= now))
        .order_by(mandate.c.created_at, mandate.c.id)
        .limit(_SOME)
    )
    return unit.execute(query).all()


def follow(unit: Unit, mandate_id: str, *, next_on: str | None, next_at: Instant | None) -> None:
    """Note the first date that is not settled, and when it is due."""
    values = {"next_on": next_on, "next_at": next_at}
    changed = unit.execute(sa.update(schedule).where(schedule.c.mandate_id == mandate_id).values(**values))
    if not changed.rowcount:
        unit.execute(sa.insert(schedule).values(mandate_id=mandate_id, **values))


# Runs


def find(unit: Unit, mandate_id: str, on: str) -> Row | None:
    """Return the run of a date, or None."""
    mine = mandate_run.c.mandate_id == mandate_id, mandate_run.c.on_date == on
    return unit.execute(sa.select(mandate_run).where(*mine)).one_or_none()


def keep(unit: Unit, mandate_id: str, on: str, **values: Any) -> Row:
    """Write what became of a date; return it."""
    mine = mandate_run.c.mandate_id == mandate_id, mandate_run.c.on_date == on
    whole = {"transfer_id": None, "reason": None, "retry_at": None, "settled_at": None, **values}
    changed = unit.execute(sa.update(mandate_run).where(*mine).values(**whole))
    if not changed.rowcount:
        unit.execute(sa.insert(mandate_run).values(mandate_id=mandate_id, on_date=on, **whole))
    return unit.execute(sa.select(mandate_run).where(*mine)).one()


def waiting(unit: Unit, *, now: Instant) -> Sequence[Row]:
    """Return some of the runs that wait and are to be tried again, the oldest first."""
    query = sa.select(mandate_run).where(mandate_run.c.status == DUE, mandate_run.c.retry_at <= now)
    return unit.execute(query.order_by(mandate_run.c.retry_at, mandate_run.c.mandate_id).limit(_SOME)).all()


def runs_page(
    unit: Unit, mandate_id: str, *, status: str | None, limit: int | None, token: str | None
) -> tuple[Sequence[Row], str | None]:
    """Return one page of a mandate's runs, newest first, each with ``payout_state``."""
    query = (
        sa.select(mandate_run, transfer.c.state.label("payout_state"))
        .outerjoin(transfer, transfer.c.id == mandate_run.c.transfer_id)
        .where(mandate_run.c.mandate_id == mandate_id)
    )
    if status is not None:
        query = query.where(mandate_run.c.status == status)
    return page(unit, query, order=mandate_run.c.due_at, key=mandate_run.c.on_date, limit=limit, token=token)


def unsigned(unit: Unit) -> Sequence[Row]:
    """Return the payouts of all runs that wait, for people, for room or for funds."""
    states = (State.READY, State.HELD)
    query = sa.select(transfer).where(transfer.c.mandate_id.is_not(None), _PAID_BY_ONE, transfer.c.state.in_(states))
    return unit.execute(query.order_by(transfer.c.id)).all()


def is_restored(row: Row) -> bool:
    """Tell whether a payout waited in a copy of the database that was restored."""
    return bool(row.flag == RESTORED)
