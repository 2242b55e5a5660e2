"""Events in the order in which they happened, read from any place on.

Units that write follow one another on every database, and ``seq`` is given within them. So whoever has read up to a
number has seen all there will ever be below it; numbers that are missing belong to units that were undone.
"""

import base64
import binascii
from typing import Any, NamedTuple

import sqlalchemy as sa

from outlay.core.errors import InvalidInput, PreconditionFailed
from outlay.core.event import iso
from outlay.core.seams import Instant
from outlay.store.database import Unit
from outlay.store.schema import approval, event

PAGE, PAGE_MAX = 100, 500
SPAN = 20_000
"""How many events one page looks through for those of one kind."""

_NEWEST = sa.select(event.c.seq, event.c.id).order_by(event.c.seq.desc()).limit(1)


class Page(NamedTuple):
    """A part of the feed."""

    items: list[dict[str, Any]]
    cursor: str  #: where the next page begins; empty: nothing has happened at all
    is_last: bool  #: nothing more has happened


def page(
    unit: Unit, *, after: str = "", limit: int = PAGE, kind: str | None = None, payout_id: str | None = None
) -> Page:
    """Return up to ``limit`` events after a place, the oldest first, and the place behind them.

    A page of one kind may be empty although there is more: its cursor leads on.

    Raises:
        InvalidInput: a cursor this server did not make. PreconditionFailed: what it points at is not there, because
            the database was restored from a backup.
    """
    start = _place(unit, after)
    newest = unit.execute(_NEWEST).first()
    if newest is None or newest.seq <= start:
        return Page([], after, is_last=True)
    query = sa.select(event).where(event.c.seq > start)
    end = newest
    if kind is not None:
        query = query.where(event.c.kind == kind)
    if payout_id is not None:
        query = query.where(event.c.subject.in_(subjects(unit, payout_id)))
    elif kind is not None and newest.seq - start > SPAN:
        end = unit.execute(_NEWEST.where(event.c.seq > start, event.c.seq <= start + SPAN)).first() or newest
        query = query.where(event.c.seq <= end.seq)
    rows = unit.execute(query.order_by(event.c.seq).limit(limit)).all()
    if len(rows) == limit:
        end = rows[-1]
    return Page([_document(row) for row in rows], _cursor(end.seq, end.id), is_last=end.seq == newest.seq)


def kinds_after(unit: Unit, number: int) -> tuple[int, list[str]]:
    """Return the number of the newest event, and the kinds of those after ``number``; of a negative one, no kinds.

    Of very many events at once only the kinds of the newest are told.
    """
    newest = unit.execute(_NEWEST).first()
    if newest is None:
        return 0, []
    if number < 0 or newest.seq <= number:
        return newest.seq, []
    since = max(number, newest.seq - SPAN)
    return newest.seq, list(unit.execute(sa.select(event.c.kind).where(event.c.seq > since).distinct()).scalars())


def subjects(unit: Unit, payout_id: str) -> list[str]:
    """Return whose events are about a payout: its own, and its approval's."""
    asked = sa.select(approval.c.id).where(approval.c.transfer_id == payout_id)
    return [payout_id, *unit.execute(asked).scalars()]


def chosen(
    unit: Unit,
    *,
    event_id: str | None = None,
    payout_id: str | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
    after: str = "",
    limit: int,
) -> tuple[list[tuple[str, str]], str | None]:
    """Return id and kind of up to ``limit`` events, the oldest first, and where to go on, or None at the end.

    Args:
        unit: the unit to read in.
        event_id: only this one.
        payout_id: only those about a payout.
        since: only those that happened then or later.
        until: only those that happened before.
        after: where to go on.
        limit: how many at most.

    Raises:
        InvalidInput: ``after`` is no place this server gave.
    """
    query = sa.select(event.c.id, event.c.kind, event.c.at, event.c.seq)
    if event_id is not None:
        query = query.where(event.c.id == event_id)
    if payout_id is not None:
        query = query.where(event.c.subject.in_(subjects(unit, payout_id)))
    if since is not None:
        query = query.where(event.c.at >= since)
    if until is not None:
        query = query.where(event.c.at < until)
    if after:
        seq, at = _read(after, field="paginationToken")
        if not at.isdecimal() or len(at) > 18:
            raise _no_cursor("paginationToken")
        later = sa.and_(event.c.at == int(at), event.c.seq > seq)
        query = query.where(event.c.at >= int(at), sa.or_(event.c.at > int(at), later))
    rows = unit.execute(query.order_by(event.c.at, event.c.seq).limit(limit + 1)).all()
    more = _cursor(rows[limit - 1].seq, str(rows[limit - 1].at)) if len(rows) > limit else None
    return [(row.id, row.kind) for row in rows[:limit]], more


def _document(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "date": iso(row.at),
        "subject": row.subject,
        "sequence": row.subject_seq,
        "data": row.data,
    }


def _place(unit: Unit, cursor: str) -> int:
    """Return the number of the last event that was read."""
    if not cursor:
        return 0
    seq, event_id = _read(cursor, field="after")
    found = unit.execute(sa.select(event.c.id).where(event.c.seq == seq)).scalar_one_or_none()
    if found != event_id:
        raise PreconditionFailed(
            "the events this cursor had read are not there: the database was restored from a backup. Read from the"
            " beginning, and drop the ids you know"
        )
    return seq


def _cursor(seq: int, name: str) -> str:
    return base64.urlsafe_b64encode(f"{seq}/{name}".encode()).decode("ascii").rstrip("=")


def _read(cursor: str, *, field: str) -> tuple[int, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (ValueError, binascii.Error):
        raise _no_cursor(field) from None
    seq, _, name = text.partition("/")
    if not seq.isdecimal() or len(seq) > 18 or not name or not name.isprintable():
        raise _no_cursor(field)
    return int(seq), name


def _no_cursor(field: str) -> InvalidInput:
    return InvalidInput(
        "is not a place this server gave: pass what the page before answered, or leave it out", field=field
    )
