"""Change requests: changes of settings that wait for people."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from outlay.core.errors import InvariantBroken
from outlay.store.database import Unit
from outlay.store.paging import page
from outlay.store.schema import approval, change_request, organization, record

PENDING = "Pending"


def add(unit: Unit, **values: Any) -> None:
    """Insert a change request."""
    unit.execute(sa.insert(change_request).values(**values))


def find(unit: Unit, change_id: str) -> sa.Row[Any] | None:
    """Return the change request, or None."""
    return unit.execute(sa.select(change_request).where(change_request.c.id == change_id)).one_or_none()


def get(unit: Unit, change_id: str) -> sa.Row[Any]:
    """Return the change request, which must exist."""
    return unit.execute(sa.select(change_request).where(change_request.c.id == change_id)).one()


def update(unit: Unit, change_id: str, **values: Any) -> None:
    """Change columns of a change request."""
    unit.execute(sa.update(change_request).where(change_request.c.id == change_id).values(**values))


def pending_about(unit: Unit, subject: str) -> Sequence[sa.Row[Any]]:
    """Return the change requests about ``subject`` that wait, oldest first."""
    return unit.execute(
        sa.select(change_request)
        .where(change_request.c.subject == subject, change_request.c.status == PENDING)
        .order_by(change_request.c.created_at)
    ).all()


def due(unit: Unit, *, now: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Return the change requests that were agreed on and whose wait is over."""
    return unit.execute(
        sa.select(change_request)
        .where(change_request.c.status == PENDING, change_request.c.due_at <= now)
        # Settings first: without them nothing else may be possible.
        .order_by(change_request.c.record_kind != "config.applied", change_request.c.due_at)
        .limit(limit)
    ).all()


def list_page(
    unit: Unit, *, status: str | None, limit: int | None, token: str | None
) -> tuple[Sequence[sa.Row[Any]], str | None]:
    """Return one page of change requests, newest first."""
    query = sa.select(change_request)
    if status is not None:
        query = query.where(change_request.c.status == status)
    return page(unit, query, order=change_request.c.created_at, key=change_request.c.id, limit=limit, token=token)


def approval_of(unit: Unit, change_id: str) -> sa.Row[Any]:
    """Return the approval of a change request."""
    return unit.execute(sa.select(approval).where(approval.c.change_id == change_id)).one()


def records_of(unit: Unit, subject: str) -> Iterator[dict[str, Any]]:
    """Yield the records about ``subject`` in order, the genesis record first."""
    about = sa.or_(record.c.subject == subject, record.c.seq == 0)
    for row in unit.execute(sa.select(record.c.document).where(about).order_by(record.c.seq)):
        yield json.loads(row.document)


def record_named(unit: Unit, hash: str) -> dict[str, Any]:
    """Return the document of the record with ``hash``, which must exist."""
    text = unit.execute(sa.select(record.c.document).where(record.c.hash == hash)).scalar_one()
    document: dict[str, Any] = json.loads(text)
    return document


def money_settings_digest(unit: Unit) -> str:
    """Return the digest of the money settings that hold."""
    found: str = unit.execute(sa.select(organization.c.money_settings)).scalar_one()
    return found


def money_settings(unit: Unit) -> dict[str, Any]:
    """Return the money settings that hold, as they were signed."""
    applied = sa.and_(
        record.c.kind == "change.applied", record.c.subject == sa.select(organization.c.id).scalar_subquery()
    )
    query = sa.select(record.c.document).where(sa.or_(record.c.kind.in_(("genesis", "config.applied")), applied))
    for text in unit.execute(query.order_by(record.c.seq.desc())).scalars():
        body: dict[str, Any] = json.loads(text)["body"]
        found: dict[str, Any] | None = body.get("body", body).get("moneySettings")
        if found is not None:
            return found  # people agree to other things about the organization too, such as letting go what stopped
    raise InvariantBroken("the genesis record holds no money settings")
